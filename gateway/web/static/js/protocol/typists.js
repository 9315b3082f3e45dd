// Who types. The server says when somebody stops; a timer is for a line that was lost.

const GONE_MS = 4000;

export class Typists {
  #tell;
  #typists = new Map(); // user id → {displayName, timer}, while they type

  /** `tell(names)` after each change. */
  constructor(tell) {
    this.#tell = tell;
  }

  starts({ senderId, displayName }) {
    clearTimeout(this.#typists.get(senderId)?.timer);
    const timer = setTimeout(() => this.stops(senderId), GONE_MS);
    this.#typists.set(senderId, { displayName, timer });
    this.#changed();
  }

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
