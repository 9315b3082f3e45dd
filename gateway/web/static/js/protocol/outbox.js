// What was typed and is not acknowledged yet.
//
// Every line has an id before it is sent and stays here, on disk, until its echo has come
// back: the server takes the same id as the same message, so sending again is harmless
// and not sending again is never needed. One localStorage key a line, so that two tabs of
// one person do not overwrite each other.

import { serverClock } from "./clock.js";
import { kept } from "./kept.js";

const PREFIX = "cfm.outbox.";
const LIMIT = 256;

/** The longest line, in UTF-16 units, as `maxlength` and the wire count. */
export const LONGEST = 2048;

const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export class Outbox {
  #prefix;
  /** @type {Map<string | undefined, Client.Line>} */
  #lines = new Map();
  #latest = 0; // the newest line's `at`: the order holds when a clock is put right

  /** @param {string} userId @param {string} roomId */
  constructor(userId, roomId) {
    this.#prefix = `${PREFIX}${userId}.${roomId}.`;
    const found = [];
    for (const key of kept.keys(this.#prefix)) {
      const line = kept.read(key);
      if (line?.frame?.id) found.push(line);
      else kept.remove(key);
    }
    found.sort((a, b) => a.at - b.at);
    for (const line of found) this.#lines.set(line.frame.id, line);
    this.#latest = found.at(-1)?.at ?? 0;
  }

  /** The rooms in which this user has something to send. @param {string} userId */
  static rooms(userId) {
    const prefix = `${PREFIX}${userId}.`;
    return new Set(kept.keys(prefix).map((key) => key.slice(prefix.length).split(".")[0]));
  }

  /** In the order they were said. */
  get lines() {
    return [...this.#lines.values()];
  }

  /** The next line to send. */
  get head() {
    return this.lines.find((line) => !line.failed);
  }

  get isFull() {
    return this.#lines.size >= LIMIT;
  }

  /** @param {string} [id] */
  get(id) {
    return this.#lines.get(id);
  }

  /** Keeps a line; `kept: false` for what is of no use later (a nudge). @param {Wire.Said} frame */
  add(frame, { kept = true } = {}) {
    this.#latest = Math.max(serverClock.now(), this.#latest + 1);
    return this.put({ frame, at: this.#latest, kept });
  }

  /** A line as it is now, at its old place if it has one. @param {Client.Line} line */
  put(line) {
    this.#lines.set(line.frame.id, line);
    if (line.kept) kept.write(this.#prefix + line.frame.id, line);
    return line;
  }

  /** @param {string} id */
  remove(id) {
    kept.remove(this.#prefix + id);
    return this.#lines.delete(id);
  }
}

/** An id that no other tab, device or visit of this user will choose. */
export function newId() {
  const random = crypto.getRandomValues(new Uint32Array(3));
  return `w-${Date.now().toString(36)}-${Array.from(random, (n) => n.toString(36)).join("")}`;
}

/** Half a character, left by a cut or a broken keyboard, becomes U+FFFD. @param {string} text */
export function wellFormed(text) {
  return text.toWellFormed?.() ?? text.replace(LONE, "\ufffd");
}
