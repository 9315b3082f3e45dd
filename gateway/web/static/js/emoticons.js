// Emoticons: what is typed, what it is called, and which drawing it becomes.

import { drawing, el } from "./dom.js";

/** `[drawing, name, code, other codes…]`; the first code is what the menu types. */
export const EMOTICONS = [
  ["smile", "smile", ":)", ":-)", "(^_^)"],
  ["grin", "big grin", ":D", ":-D"],
  ["wink", "wink", ";)", ";-)"],
  ["tongue", "tongue out", ":P", ":-P", ":p", ":-p"],
  ["wow", "surprised", ":O", ":-O", ":o"],
  ["cool", "cool", "8-)", "(H)"],
  ["blush", "blushing", ":$", ":-$"],
  ["sad", "sad", ":(", ":-("],
  ["cry", "crying", ":'(", ";("],
  ["angry", "angry", ":@", ":-@"],
  ["puzzled", "puzzled", ":S", ":-S", ":s"],
  ["straight", "unimpressed", ":|", ":-|"],
  ["sleepy", "sleepy", "|-)"],
  ["devil", "mischievous", "(6)"],
  ["heart", "heart", "<3", "(L)"],
  ["broken", "broken heart", "</3", "(U)"],
  ["yes", "thumbs up", "(Y)", "(y)"],
  ["no", "thumbs down", "(N)", "(n)"],
  ["rose", "rose", "(F)"],
  ["star", "star", "(*)"],
  ["coffee", "coffee", "(C)"],
  ["note", "music", "(8)"],
  ["pizza", "pizza", "(pi)"],
  ["gift", "present", "(G)"],
];

const BY_CODE = new Map(
  EMOTICONS.flatMap(([id, name, ...codes]) => codes.map((code) => [code, { id, name }])),
);

/** @param {string} text */
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const codes = [...BY_CODE.keys()].sort((a, b) => b.length - a.length).map(escape);
// Alone or at a word's edge: "http://", "10:30" and "(8)00" stay what they are.
const FIND = new RegExp(`(?<![\\w:/])(${codes.join("|")})(?![\\w/])`, "g");

/** The text as nodes: emoticons drawn, named for readers, and copied as typed. @param {string} text */
export function withEmoticons(text) {
  return text.split(FIND).map((part) => {
    const found = BY_CODE.get(part);
    if (!found) return part;
    const code = el("span", { class: "unseen", "aria-hidden": "true" }, part);
    return el("span", {}, drawing(`e-${found.id}`, "emoticon", found.name), code);
  });
}
