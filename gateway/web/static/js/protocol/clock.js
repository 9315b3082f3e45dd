// The server's clock, measured by ping and pong, and before the first of them by any
// answer over HTTP: nothing here compares the server's times with this machine's clock.
//
// Runs on `performance.now()`, so somebody who sets this machine's clock moves nothing.
// Of the latest samples the one with the shortest way counts: its error is at most half
// of that way.

const KEPT = 8;

export class Clock {
  /** @type {{ way: number, offset: number }[]} */
  #samples = [];
  #offset = performance.timeOrigin; // until measured, this machine's own idea

  /** The server's time now, in Unix milliseconds. */
  now() {
    return performance.now() + this.#offset;
  }

  /**
   * @param {number} sent the `t` that the ping carried
   * @param {number} timestamp of its pong: the server's time
   */
  measured(sent, timestamp) {
    const received = performance.now();
    const way = Math.max(0, received - sent); // `t` travels in whole milliseconds
    if (!Number.isFinite(way + timestamp)) return;
    this.#samples.push({ way, offset: timestamp + way / 2 - received });
    if (this.#samples.length > KEPT) this.#samples.shift();
    this.#offset = this.#samples.reduce((a, b) => (b.way < a.way ? b : a)).offset;
  }

  /** Whether anything was measured yet. */
  get known() {
    return this.#samples.length > 0;
  }

  /** The machine may have slept or moved: measure anew. */
  forget() {
    this.#samples = [];
  }
}

/** One for the page: all sockets and calls go to the same server. */
export const serverClock = new Clock();
