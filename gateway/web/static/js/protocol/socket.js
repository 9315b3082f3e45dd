// A WebSocket that comes back.
//
// Reconnects with full jitter, the first delay included: after a restart of the server
// its clients must not return in one wave. Follows the close codes of wire.md §6, notices
// a dead line by pings of its own while the page is looked at, and goes at once when the
// network returns or the page is shown again. What the browser says of the network is a
// hint: it knows of interfaces, not of this server.

import { ApiError } from "./api.js";
import { Emitter } from "./emitter.js";

const BASE_MS = 1000;
const CAP_MS = 15_000;
const STABLE_MS = 5000;
const OPEN_PATIENCE_MS = 10_000;
const PING_EVERY_MS = 20_000;
const PONG_PATIENCE_MS = 8000;
const HINT_PATIENCE_MS = 2000;
const FIRST_PINGS_MS = [0, 150, 300, 600];

/** @param {number} code @returns {Client.Policy} */
export function policyOf(code) {
  if (code === 1013) return "later";
  if (code >= 4500 && code <= 4999) return "never";
  // A fault of this client's own: the same again would loop.
  if ([1002, 1003, 1007, 1008, 1009, 1010].includes(code)) return "never";
  return "again";
}

/** @extends {Emitter<Client.SocketEvents>} */
export class LiveSocket extends Emitter {
  /** @type {Client.State} */
  state = "closed";
  #dial;
  #clock;
  #judge;
  /** @type {WebSocket | undefined} */
  #socket;
  #attempt = 0;
  /** @type {Set<number>} */
  #timers = new Set();
  #pongDue = 0;
  #stopped = true;
  /** Of the latest refusal, until a socket opens. @type {string | undefined} */
  #why;

  /**
   * @param {() => Promise<string>} dial the URL, with a fresh ticket, or an `ApiError`
   * @param {Client.Clock} clock
   * @param {(code: number) => Client.Policy} judge may overrule `policyOf`
   */
  constructor(dial, clock, judge = policyOf) {
    super();
    this.#dial = dial;
    this.#clock = clock;
    this.#judge = judge;
  }

  start() {
    this.#stopped = false;
    addEventListener("online", this.#onOnline);
    addEventListener("offline", this.#onOffline);
    navigator.connection?.addEventListener("change", this.#onChange);
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#connect();
  }

  /** For good. */
  stop(code = 1000) {
    this.#stopped = true;
    removeEventListener("online", this.#onOnline);
    removeEventListener("offline", this.#onOffline);
    navigator.connection?.removeEventListener("change", this.#onChange);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#drop(code);
    this.#become("closed");
  }

  // A browser knows that a socket closes before it tells us, and complains of what is sent
  // meanwhile: it is lost.
  get isOpen() {
    return this.state === "open" && this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Sends a frame if the socket is open; says whether it did. @param {Wire.ClientFrame} frame */
  send(frame) {
    if (!this.isOpen) return false;
    this.#socket?.send(JSON.stringify(frame));
    return true;
  }

  /** Do not wait any longer. */
  retryNow() {
    if (!this.#isWaiting) return;
    this.#clear();
    this.#connect();
  }

  get #isWaiting() {
    return this.state === "waiting" || this.state === "offline";
  }

  async #connect() {
    this.#become("connecting");
    let socket;
    try {
      const url = await this.#dial();
      if (this.#stopped || this.state !== "connecting") return;
      socket = new WebSocket(url);
    } catch (error) {
      if (this.#stopped || this.state !== "connecting") return;
      const { code, message, final, retryAfterS } = ApiError.of(error);
      this.#why = code === "OFFLINE" ? undefined : message;
      if (final) this.#end(code);
      else this.#retry(retryAfterS * 1000);
      return;
    }
    this.#socket = socket;
    const mine = () => socket === this.#socket;
    socket.onopen = () => mine() && this.#opened();
    socket.onmessage = ({ data }) => mine() && this.#received(data);
    socket.onclose = ({ code }) => mine() && this.#lost(code);
    this.#later(OPEN_PATIENCE_MS, () => this.#lost(1006));
  }

  #opened() {
    this.#clear();
    this.#why = undefined;
    this.#become("open");
    this.#later(STABLE_MS, () => (this.#attempt = 0));
    for (const ms of FIRST_PINGS_MS) this.#later(ms, () => this.#ping());
    this.#keepPinging();
    this.emit("open");
  }

  /** @param {string} data */
  #received(data) {
    clearTimeout(this.#pongDue);
    this.#pongDue = 0;
    /** @type {Wire.ServerFrame} */
    let frame;
    try {
      frame = JSON.parse(data);
    } catch (error) {
      return console.error(error); // not ours to understand; what follows may be
    }
    if (!("seq" in frame) && frame.type === "pong" && frame.t !== undefined) {
      this.#clock.measured(frame.t, frame.timestamp);
    }
    this.emit("frame", frame);
  }

  /** @param {number} code */
  #lost(code) {
    this.#drop();
    const policy = this.#judge(code);
    if (policy === "never") this.#end(code);
    else this.#retry(policy === "later" ? 2000 : 0);
  }

  /** @param {Client.Final["code"]} code */
  #end(code) {
    this.stop();
    this.emit("final", { code });
  }

  #retry(atLeastMs = 0) {
    const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(this.#attempt++, 10));
    const delay = atLeastMs + Math.random() * ceiling;
    this.#later(delay, () => this.#connect());
    const state = navigator.onLine ? "waiting" : "offline";
    this.#become(state, performance.now() + delay);
  }

  #keepPinging() {
    this.#later(PING_EVERY_MS * (0.75 + Math.random() / 2), () => {
      // A hidden page's timers are slow; the server's own pings are answered without us.
      if (!document.hidden) this.#ping();
      this.#keepPinging();
    });
  }

  #ping(patienceMs = PONG_PATIENCE_MS) {
    this.send({ type: "ping", t: Math.round(performance.now()) });
    this.#pongDue ||= setTimeout(() => this.#lost(1006), patienceMs);
  }

  #drop(code = 1000) {
    this.#clear();
    clearTimeout(this.#pongDue);
    this.#pongDue = 0;
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(code);
  }

  /** @param {Client.State} state @param {number} [retryAt] */
  #become(state, retryAt) {
    this.state = state;
    this.emit("state", { state, retryAt, why: this.#why });
  }

  /** @param {number} ms @param {() => void} work */
  #later(ms, work) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, ms);
    this.#timers.add(timer);
  }

  #clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #onOnline = () => {
    if (!this.#isWaiting) return this.#check();
    // A building's worth of clients may have got its network back.
    this.#clear();
    this.#attempt = 0;
    this.#retry();
  };

  #onOffline = () => {
    if (this.isOpen) {
      clearTimeout(this.#pongDue);
      this.#pongDue = 0;
      this.#check(HINT_PATIENCE_MS);
    } else if (this.#isWaiting) this.#become("offline");
  };

  #onChange = () => this.#check();

  #onVisibility = () => {
    if (!document.hidden) this.#check();
  };

  /** After a sleep or a change of network: is this line still alive? @param {number} [patienceMs] */
  #check(patienceMs) {
    if (this.isOpen) {
      this.#clock.forget();
      this.#ping(patienceMs);
    } else this.retryNow();
  }
}
