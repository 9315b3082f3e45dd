// Keys as people mean them.

/**
 * Whether a key belongs to composing a character (Japanese, Chinese, accents, …) and not
 * to us. Safari ends the composition before it tells of the Enter that ended it; what is
 * left to know it by is `keyCode` 229.
 */
export function composing({ isComposing, keyCode }) {
  return isComposing || keyCode === 229;
}

/** Whether this key says "send". */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !composing(event);
}
