// A message's text as nodes: links that are safe to follow, emoticons, line ends.

import { el } from "./dom.js";
import { withEmoticons } from "./emoticons.js";

const LINK = /\bhttps?:\/\/[^\s<>"'`\u202a-\u202e\u2066-\u2069]+/gi;
const TRAILING = /[.,:;!?'"*\])}]+$/;

export function rich(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = trimmed(found);
    const made = link(address);
    if (!made) continue;
    nodes.push(...withEmoticons(text.slice(from, index)), made);
    from = index + address.length;
  }
  nodes.push(...withEmoticons(text.slice(from)));
  return nodes.filter((node) => node !== "");
}

// The sentence's own punctuation is not part of the address, a bracket of its own is.
function trimmed(address) {
  const bare = address.replace(TRAILING, "");
  const cut = address.slice(bare.length);
  return cut.startsWith(")") && bare.includes("(") ? `${bare})` : bare;
}

// What is shown is what is followed, letter by letter.
function link(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return undefined;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return undefined;
  const attributes = { href: url.href, target: "_blank", rel: "noopener noreferrer" };
  return el("a", { ...attributes, dir: "ltr" }, address);
}
