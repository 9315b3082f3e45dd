// What was typed and is not acknowledged yet.
//
// Every line has an id before it is sent and stays here, on disk, until its echo has come
// back: the server takes the same id as the same message, so sending again is harmless
// and not sending again is never needed. One localStorage key a line, so that two tabs of
// one person do not overwrite each other.

const PREFIX = "cfm.outbox.";

export class Outbox {
  #prefix;
  #lines = new Map();

  constructor(userId, roomId) {
    this.#prefix = `${PREFIX}${userId}.${roomId}.`;
    const kept = [];
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(this.#prefix)) continue;
      try {
        kept.push(JSON.parse(localStorage.getItem(key)));
      } catch {
        localStorage.removeItem(key);
      }
    }
    kept.sort((a, b) => a.at - b.at);
    for (const line of kept) this.#lines.set(line.frame.id, line);
  }

  /** The rooms in which this user has something to send. */
  static rooms(userId) {
    const prefix = `${PREFIX}${userId}.`;
    const found = Object.keys(localStorage).filter((key) => key.startsWith(prefix));
    return new Set(found.map((key) => key.slice(prefix.length).split(".")[0]));
  }

  /** Lines in the order they were said: `{frame, at, failed?}`. */
  get lines() {
    return [...this.#lines.values()];
  }

  /** The next line to send. */
  get head() {
    return this.lines.find((line) => !line.failed);
  }

  has(id) {
    return this.#lines.has(id);
  }

  /** Keeps a line; `kept: false` for what is of no use later (a nudge). */
  add(frame, { kept = true } = {}) {
    const line = { frame, at: Date.now(), kept };
    this.#lines.set(frame.id, line);
    this.#store(line);
    return line;
  }

  /** The server will never take it; it stays until the person has decided. */
  fail(id, message) {
    const line = this.#lines.get(id);
    line.failed = message;
    this.#store(line);
  }

  remove(id) {
    localStorage.removeItem(this.#prefix + id);
    return this.#lines.delete(id);
  }

  #store(line) {
    if (!line.kept) return;
    try {
      localStorage.setItem(this.#prefix + line.frame.id, JSON.stringify(line));
    } catch {
      // The disk is full: it lives as long as this page does.
    }
  }
}
