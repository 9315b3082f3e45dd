// A message's text as nodes: links that are safe to follow, emoticons, line ends.

import { el } from "./dom.js";
import { withEmoticons } from "./emoticons.js";
import { partsOf } from "./links.js";

export function rich(text) {
  const nodes = partsOf(text).flatMap(({ text: said, address, href }) =>
    href ? link(address, href) : withEmoticons(said),
  );
  return nodes.filter((node) => node !== "");
}

function link(address, href) {
  const attributes = { href, target: "_blank", rel: "noopener noreferrer", dir: "ltr" };
  return el("a", attributes, address);
}
