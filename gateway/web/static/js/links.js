// Where a web address ends within what people write.
//
// The way of UTS #58 (Unicode link detection): some characters end an address wherever
// they stand, some only at its end, and a closing bracket only if the address did not
// open it. So the sentence's own punctuation is not part of an address, and the address's
// own is.

const START = /(?<![a-z\d])https?:\/\/(?=[^\s/])/giu;
// Blanks, controls, what shows nothing or turns the direction, what no address has, and
// the punctuation of sentences that do without blanks.
const HARD = /[\s\p{C}\p{Z}<>"`|\\^\u2014\u2026\u3001-\u3003\uff01\uff0c\uff0e\uff1a\uff1b\uff1f\uff61\uff64]/u;
const SOFT = /[.,:;!?'\u2019\u2018*]/u;
/** @type {Record<string, string>} */
const CLOSING = { "(": ")", "[": "]", "{": "}", "\u00ab": "\u00bb", "\u2039": "\u203a", "\u201c": "\u201d", "\u201e": "\u201d" };
const OPENING = /[\p{Ps}\p{Pi}]/u;
const ANY_CLOSING = /[\p{Pe}\p{Pf}]/u;

/** The text in parts, in order. @param {string} text */
export function partsOf(text) {
  /** @type {({ text: string } | { address: string, href: string })[]} */
  const parts = [];
  let from = 0;
  for (const { index } of text.matchAll(START)) {
    if (index < from) continue;
    const address = text.slice(index, endOf(text, index));
    const href = hrefOf(address);
    if (!href) continue;
    if (index > from) parts.push({ text: text.slice(from, index) });
    parts.push({ address, href });
    from = index + address.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  return parts;
}

/** @param {string} text @param {number} start */
function endOf(text, start) {
  /** @type {string[]} */
  const open = [];
  let end = start;
  let at = start;
  for (const letter of text.slice(start)) {
    at += letter.length;
    if (HARD.test(letter)) break;
    if (SOFT.test(letter)) continue;
    if (OPENING.test(letter)) {
      open.push(letter);
      continue;
    }
    if (ANY_CLOSING.test(letter) && CLOSING[open.pop() ?? ""] !== letter) break;
    end = at;
  }
  return end;
}

// What is shown is what is followed, letter by letter.
/** @param {string} address */
function hrefOf(address) {
  try {
    const url = new URL(address);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}
