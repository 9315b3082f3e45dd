// Who types. The server says when somebody stops; a timer is for a line that was lost.

const GONE_MS = 4000;

export class Typists {
  #tell;
  /** By user id, while they type. @type {Map<string, { displayName: string, timer: number }>} */
  #typists = new Map();

  /** @param {(names: string[]) => void} tell after each change */
  constructor(tell) {
    this.#tell = tell;
  }

  /** @param {Wire.Typing} frame */
  starts({ senderId, displayName }) {
    clearTimeout(this.#typists.get(senderId)?.timer);
    const timer = setTimeout(() => this.stops(senderId), GONE_MS);
    this.#typists.set(senderId, { displayName, timer });
    this.#changed();
  }

  /** @param {string} userId */
  stops(userId) {
    const typist = this.#typists.get(userId);
    if (!typist) return;
    clearTimeout(typist.timer);
    this.#typists.delete(userId);
    this.#changed();
  }

  /** Nobody is heard any more. */
  clear() {
    for (const userId of [...this.#typists.keys()]) this.stops(userId);
  }

  #changed() {
    this.#tell([...this.#typists.values()].map(({ displayName }) => displayName));
  }
}
