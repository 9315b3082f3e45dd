// What the browser keeps for this site, as JSON under keys; never an exception.
//
// A browser may refuse all of it (site data blocked) or the next byte (the disk is full).
// Then a value lives as long as this page, which is enough to sign in and talk.

const PROBE = "cfm.probe";
const WORD = /^[\w-]+$/;

class Kept {
  /** Whether anything written here outlives the page. */
  lasting = false;
  /** @type {Storage | undefined} */
  #place;
  /** @type {Map<string, string>} */
  #memory = new Map(); // what the disk did not take, until it does or another tab writes

  /** @param {() => Storage} open */
  constructor(open) {
    try {
      this.#place = open();
      this.#disk.setItem(PROBE, "");
      this.#disk.removeItem(PROBE);
      this.lasting = true;
    } catch {
      // To be read from, perhaps.
    }
    addEventListener("storage", ({ key }) => {
      if (key === null) this.#memory.clear();
      else this.#memory.delete(key);
    });
  }

  get #disk() {
    if (!this.#place) throw new Error("This browser keeps nothing.");
    return this.#place;
  }

  /** The value, or undefined if there is none or it is not ours to read. @param {string} key */
  read(key) {
    let text = null;
    try {
      text = this.#memory.get(key) ?? this.#disk.getItem(key);
      return JSON.parse(text ?? "null") ?? undefined;
    } catch {
      // A word by itself is from an earlier release, which kept choices as they are.
      return WORD.test(text ?? "") ? text : undefined;
    }
  }

  /** @param {string} key @param {unknown} value `undefined` removes */
  write(key, value) {
    if (value === undefined) return this.remove(key);
    const text = JSON.stringify(value);
    this.#memory.delete(key);
    try {
      this.#disk.setItem(key, text);
    } catch {
      this.#memory.set(key, text);
    }
  }

  /** @param {string} key */
  remove(key) {
    this.#memory.delete(key);
    try {
      this.#disk.removeItem(key);
    } catch {
      // Nothing was kept.
    }
  }

  /** @param {string} prefix */
  keys(prefix) {
    /** @type {string[]} */
    let known = [];
    try {
      known = Object.keys(this.#disk);
    } catch {
      // Nothing was kept.
    }
    return [...new Set([...known, ...this.#memory.keys()])].filter((key) => key.startsWith(prefix));
  }
}

/** Shared by all tabs. */
export const kept = new Kept(() => localStorage);
/** This tab's own, over a reload. */
export const keptHere = new Kept(() => sessionStorage);
