// What the wire takes as text, as far as a client must see to it.

/** The longest line, in UTF-16 units, as `maxlength` and the wire count. */
export const LONGEST = 2048;

const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Half a character, left by a cut or a broken keyboard, becomes U+FFFD. */
export function wellFormed(text) {
  return text.toWellFormed?.() ?? text.replace(LONE, "\ufffd");
}
