// Sounds, made of oscillators when they are needed: there is no file to load.

import { kept } from "./protocol.js";

const KEY = "cfm.sound";
/** @type {AudioContext | undefined} */
let context;
let on = kept.read(KEY) !== "off";

/** @type {Record<Client.Tune, Client.Note[]>} */
const TUNES = {
  message: [
    [784, 0, 0.09, "sine", 0.25],
    [1175, 0.08, 0.22, "sine", 0.22],
  ],
  online: [
    [523, 0, 0.12, "triangle", 0.16],
    [659, 0.1, 0.12, "triangle", 0.16],
    [880, 0.2, 0.3, "triangle", 0.16],
  ],
  signIn: [
    [392, 0, 0.25, "sine", 0.16],
    [587, 0.12, 0.25, "sine", 0.16],
    [784, 0.24, 0.25, "sine", 0.16],
    [988, 0.36, 0.6, "sine", 0.16],
  ],
  nudge: [
    [120, 0, 0.07, "sawtooth", 0.22],
    [95, 0.09, 0.07, "sawtooth", 0.22],
    [120, 0.18, 0.07, "sawtooth", 0.22],
    [95, 0.27, 0.12, "sawtooth", 0.22],
  ],
  wink: [
    [1047, 0, 0.08, "sine", 0.14],
    [1319, 0.06, 0.08, "sine", 0.14],
    [1568, 0.12, 0.08, "sine", 0.14],
    [2093, 0.18, 0.4, "sine", 0.14],
  ],
};

export function soundIsOn() {
  return on;
}

/** @param {boolean} wanted */
export function setSound(wanted) {
  on = wanted;
  kept.write(KEY, on ? "on" : "off");
  if (on) play("message");
}

/** Plays a tune, if sound is wanted and the browser allows it by now. @param {Client.Tune} name */
export function play(name) {
  if (!on || !navigator.userActivation?.hasBeenActive) return;
  try {
    sound(TUNES[name]);
  } catch (error) {
    console.warn(error); // a device without sound, or too many of them: it is an extra
  }
}

/** @param {Client.Note[]} tune */
function sound(tune) {
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume().catch(() => {});
  const start = context.currentTime + 0.01;
  for (const [frequency, at, length, shape, loudness] of tune) {
    const oscillator = new OscillatorNode(context, { type: shape, frequency });
    const gain = new GainNode(context, { gain: 0 });
    const from = start + at;
    gain.gain.setValueAtTime(0, from);
    gain.gain.linearRampToValueAtTime(loudness, from + 0.012);
    gain.gain.exponentialRampToValueAtTime(0.0001, from + length);
    oscillator.connect(gain).connect(context.destination);
    oscillator.start(from);
    oscillator.stop(from + length);
  }
}
