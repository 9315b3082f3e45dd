// Events without a DOM: what the client module tells whoever listens.

export class Emitter {
  #listeners = new Map();

  /** Calls `listener(detail)` for every `type` from now on; returns how to stop. */
  on(type, listener) {
    const all = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, all.add(listener));
    return () => all.delete(listener);
  }

  /** A listener's fault is its own: it is reported, and the others and we go on. */
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
