// Playing winks: at the server's moment, on every screen at once, each key once.

import { announce } from "./a11y.js";
import { calm, el } from "./dom.js";
import { play } from "./sounds.js";
import { LENGTH_S, nameOf, sceneOf, WINKS } from "./wink_scenes.js";

const STILL_S = 1.6; // the moment a picture without motion shows
const KEYS_KEPT = 200;
/** @type {Set<string>} */
const played = new Set();

/**
 * Plays a wink message over `place` when `clock` shows its `playAt`. One that is over is
 * not played; one that has begun is joined where it is.
 * @param {Wire.Message} message
 * @param {Element} place
 * @param {Client.Clock} clock
 */
export function playWink(message, place, clock) {
  const { winkId, playAt, playbackKey } = message;
  if (!winkId || !playAt || !playbackKey || played.has(playbackKey)) return;
  const wait = playAt - clock.now();
  if (wait < -LENGTH_S * 1000) return;
  played.add(playbackKey);
  const [oldest] = played;
  if (played.size > KEYS_KEPT) played.delete(oldest);
  const begin = () => {
    const canvas = el("canvas", { class: "wink", "aria-hidden": "true", "data-wink": winkId });
    canvas.dataset.playbackKey = playbackKey;
    canvas.dataset.startedAt = String(performance.timeOrigin + performance.now());
    place.append(canvas);
    play("wink");
    const draw = painter(canvas, sceneOf(winkId, playbackKey));
    const frame = () => {
      const t = (clock.now() - playAt) / 1000;
      if (t >= LENGTH_S || !canvas.isConnected) return canvas.remove();
      draw(Math.max(0, calm.matches ? STILL_S : t));
      requestAnimationFrame(frame);
    };
    frame();
    // A hidden page draws no frames; the wink is over there too.
    setTimeout(() => canvas.remove(), LENGTH_S * 1000 + 500);
    announce(`Wink: ${nameOf(winkId)}`);
  };
  setTimeout(begin, Math.max(0, wait));
}

/** @param {HTMLCanvasElement} canvas @param {Client.Scene} scene */
function painter(canvas, scene) {
  const g = canvas.getContext("2d");
  /** @param {number} t */
  return (t) => {
    if (!g) return; // too many of them, or no memory: it is an extra
    const { clientWidth: w, clientHeight: h } = canvas;
    const scale = Math.min(devicePixelRatio, 2);
    if (canvas.width !== Math.round(w * scale)) canvas.width = Math.round(w * scale);
    if (canvas.height !== Math.round(h * scale)) canvas.height = Math.round(h * scale);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, w, h);
    g.save();
    scene(g, t, w, h);
    g.restore();
  };
}

/** The menu: a picture of each. @param {(winkId: string) => void} choose when one is taken */
export function winkMenu(choose) {
  const made = Object.entries(WINKS).map(([id, [label]]) => {
    const picture = el("canvas", { "aria-hidden": "true", width: "96", height: "72" });
    const item = el(
      "button",
      { type: "button", "data-wink": id, onclick: () => choose(id) },
      picture,
      el("span", {}, label),
    );
    // Called when it is first seen: most people never open the menu.
    const paint = () => {
      const g = picture.getContext("2d");
      if (!g) return;
      g.clearRect(0, 0, 96, 72);
      g.save();
      g.scale(0.4, 0.4);
      sceneOf(id, "5eed5eed")(g, STILL_S, 240, 180);
      g.restore();
    };
    return { item, paint };
  });
  const paint = () => made.forEach((each) => each.paint());
  return { items: made.map(({ item }) => item), paint };
}
