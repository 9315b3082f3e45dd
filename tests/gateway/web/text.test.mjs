// What is typed: where a link ends, and which Enter sends.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./world.mjs";

const tab = await new World().tab();
const { partsOf } = await tab.load("links.js");
const { composing, sends } = await tab.load("a11y.js");

// The text with what becomes a link between ⟦ and ⟧.
const LINKS = {
  "the end of a sentence": [
    "See ⟦https://a.example/x⟧.",
    "⟦https://a.example/x⟧, then ⟦http://b.example⟧; and ⟦https://c.example/?q⟧!",
    "Really ⟦https://a.example/x⟧?!",
    "Wait ⟦https://a.example/x⟧...",
    "Wait ⟦https://a.example/x⟧…",
    "⟦https://a.example/v1.2/x.y.html⟧: that one",
    "*⟦https://a.example/bold⟧*",
    "⟦https://a.example/a⟧—great, ⟦https://a.example/1939–1945⟧ too",
  ],
  "an apostrophe": [
    "⟦https://en.example/wiki/Schrödinger's_cat⟧",
    "⟦https://en.example/wiki/Schrödinger’s_cat⟧",
    "'⟦https://a.example/x⟧'",
    "‘⟦https://a.example/x⟧’",
    "it's ⟦https://a.example/the_boys⟧'",
  ],
  quotes: [
    '"⟦https://a.example/x⟧"',
    "“⟦https://a.example/x⟧”",
    "„⟦https://a.example/x⟧“ sagte sie",
    "«⟦https://a.example/x⟧» et «⟦https://b.example⟧».",
    "“⟦https://a.example/x⟧.”",
    "`⟦https://a.example/x⟧`",
  ],
  brackets: [
    "(⟦https://a.example/x⟧)",
    "(see ⟦https://en.example/wiki/Foo_(bar)⟧)",
    "(⟦https://en.example/wiki/Foo_(bar)_(baz)⟧).",
    "[⟦https://a.example/x⟧] {⟦https://a.example/y⟧} <⟦https://a.example/z⟧>",
    "[words](⟦https://a.example/x⟧) and more)",
    "⟦https://a.example/?q[]=1&r[0]={x}⟧",
    "⟦http://[::1]:8000/⟧]",
    "⟦https://a.example/⟧( and nothing",
    "⟦https://a.example/x⟧).",
    "（⟦https://a.example/x⟧）",
  ],
  "languages without blanks": [
    "見て⟦https://a.example/x⟧。次",
    "⟦https://a.example/x⟧，⟦https://b.example⟧、⟦https://c.example/y⟧！",
    "「⟦https://a.example/x⟧」と『⟦https://b.example⟧』",
    "⟦https://ja.example/wiki/日本語⟧ の",
    "看⟦https://a.example/x⟧……好",
  ],
  "what shows nothing": [
    "⟦https://a.example/x⟧\u202egpj.exe",
    "⟦https://a.example/x⟧\u200by",
    "⟦https://a.example/x⟧\u2066y ⟦https://a.example/z⟧\u00ad",
    "⟦https://a.example/x⟧\nnext",
  ],
  "no link": [
    "javascript:alert(1) ftp://a.example xhttps://a.example https:// http://. https:///x",
    "https://)",
    "mail me at a@a.example",
  ],
  "the rest": [
    "⟦HTTPS://A.example/X⟧ 👍⟦https://a.example/👍⟧ 👍",
    "⟦https://a.example/a_b-c~d%20e+f=g@h$i;j,k!l⟧",
    "⟦https://a.example/x⟧ :) ⟦https://a.example/#:~:text=y⟧",
    "⟦https://a.example/x⟧|⟦https://b.example⟧",
  ],
};

for (const [what, texts] of Object.entries(LINKS)) {
  for (const marked of texts) {
    test(`a link and ${what}: ${marked.replaceAll(/[^\x20-\uffff]|[\u00ad\u200b-\u202f\u2066]/gu, "~")}`, () => {
      const parts = partsOf(marked.replaceAll(/[⟦⟧]/g, ""));
      assert.equal(parts.map(({ text, address }) => text ?? `⟦${address}⟧`).join(""), marked);
    });
  }
}

test("a link leads where it says", () => {
  const [{ href }] = partsOf("https://a.example/ü?q='x");
  assert.equal(href, "https://a.example/%C3%BC?q=%27x");
});

const enter = { key: "Enter", shiftKey: false, isComposing: false, keyCode: 13 };

test("Enter sends, and Shift+Enter does not", () => {
  assert.equal(sends(enter), true);
  assert.equal(sends({ ...enter, shiftKey: true }), false);
  assert.equal(sends({ ...enter, key: "a", keyCode: 65 }), false);
});

test("the Enter that ends a composition does not send", () => {
  for (const end of [{ isComposing: true, keyCode: 229 }, { keyCode: 229 }, { isComposing: true }]) {
    assert.equal(sends({ ...enter, ...end }), false);
    assert.equal(composing({ ...enter, key: "Escape", ...end }), true);
  }
});
