// Events without a DOM: what the client module tells whoever listens.

/** @template Events what comes with each type */
export class Emitter {
  /** @type {Map<keyof Events, Set<Function>>} */
  #listeners = new Map();

  /**
   * Calls `listener(detail)` for every `type` from now on; returns how to stop.
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(detail: Events[Type]) => void} listener
   */
  on(type, listener) {
    const all = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, all.add(listener));
    return () => all.delete(listener);
  }

  /**
   * A listener's fault is its own: it is reported, and the others and we go on.
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {Events[Type]} [detail]
   */
  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        console.error(error);
      }
    }
  }
}
