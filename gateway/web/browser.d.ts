// What a browser or a script of others has, and the type checker's library does not name.

interface String {
  /** Since 2023. */
  toWellFormed?(): string;
}

interface Navigator {
  /** Where a browser has it: fires "change" when the network does. */
  readonly connection?: EventTarget;
}

/** https://developers.cloudflare.com/turnstile/, once its script is loaded. */
declare var turnstile: {
  render(place: Element, options: object): string;
  reset(id: string): void;
};
