// Where one writes: text, emoticons, a nudge, a wink.

import { announce, popover, roving, sends } from "./a11y.js";
import { drawing, el } from "./dom.js";
import { EMOTICONS } from "./emoticons.js";
import { LONGEST } from "./protocol.js";
import { winkMenu } from "./winks.js";

const SHOW_LEFT = 200;
const REFUSED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

export class Composer {
  #actions;

  /** `actions`: `say(text)` (whether it will be said), `nudge()`, `wink(id)`, `typing(is)`, `draft(text)`. */
  constructor(title, draft, actions) {
    this.#actions = actions;
    this.box = el("textarea", {
      rows: "2",
      maxlength: String(LONGEST),
      dir: "auto",
      "aria-label": `Message to ${title}`,
      placeholder: "Type a message",
      enterkeyhint: "send",
      "data-focus": true,
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#key(event),
      onblur: () => actions.typing(false),
    });
    this.box.value = draft;
    this.left = el("span", { class: "left", role: "status" });
    this.send = el("button", { type: "button", class: "primary send", onclick: () => this.#send() }, "Send");
    this.element = el(
      "div",
      { class: "composer" },
      el("div", { class: "tools", role: "group", "aria-label": "Extras" }, this.#emoticons(), this.#winks(), this.#nudge(), this.left),
      el("div", { class: "write" }, this.box, this.send),
    );
  }

  /** Text comes back to be changed: what was being written stays after it. */
  put(text) {
    this.box.value = this.box.value ? `${text}\n${this.box.value}` : text;
    this.box.focus();
    this.#typed();
  }

  /** Nothing can be said here any more. */
  close() {
    for (const each of this.element.querySelectorAll("button, textarea")) each.disabled = true;
  }

  #emoticons() {
    const items = EMOTICONS.map(([id, label, code]) =>
      el(
        "button",
        { type: "button", title: `${label} ${code}`, "aria-label": `${label} ${code}`, onclick: () => this.#insert(code) },
        drawing(`e-${id}`, "emoticon"),
      ),
    );
    return this.#menu("e-smile", "Emoticons", "emoticons", items, 8);
  }

  #winks() {
    const items = winkMenu((id) => {
      this.closeWinks();
      this.#actions.wink(id);
    });
    const made = this.#menu("i-wink", "Winks", "winks", items, 4, (close) => (this.closeWinks = close));
    made.firstChild.addEventListener("click", () => {
      for (const item of items) item.paint();
    });
    return made;
  }

  /** @param {(close: () => void) => void} [keep] */
  #menu(icon, label, className, items, columns, keep = () => {}) {
    const panel = el("div", { class: `menu ${className}`, role: "group", "aria-label": label }, items);
    const button = el("button", { type: "button", class: "tool" }, drawing(icon), el("span", {}, label));
    const close = popover(button, panel);
    roving(panel, () => items, { horizontal: true, columns })();
    keep(close);
    if (className === "emoticons") this.closeEmoticons = close;
    return el("div", { class: "menubox" }, button, panel);
  }

  #nudge() {
    return el(
      "button",
      { type: "button", class: "tool nudger", onclick: () => this.#actions.nudge() },
      drawing("i-nudge"),
      el("span", {}, "Nudge"),
    );
  }

  #insert(code) {
    const { box } = this;
    this.closeEmoticons();
    const before = box.value.slice(0, box.selectionStart);
    const gap = before && !/\s$/.test(before) ? " " : "";
    box.setRangeText(`${gap}${code} `, box.selectionStart, box.selectionEnd, "end");
    box.focus();
    this.#typed();
  }

  #typed() {
    const { value } = this.box;
    this.#actions.typing(value.trim() !== "");
    this.#actions.draft(value);
    const left = LONGEST - value.length;
    this.left.textContent = left < SHOW_LEFT ? `${left} left` : "";
  }

  #key(event) {
    if (!sends(event)) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const text = this.box.value.replace(REFUSED, "").trim();
    if (!text) return this.box.focus();
    // Text that came back to be changed may be too long for `maxlength` to have noticed.
    if (text.length > LONGEST) return announce(`Too long by ${text.length - LONGEST} characters`, true);
    if (!this.#actions.say(text)) return this.box.focus();
    this.box.value = "";
    this.#typed();
    this.box.focus();
  }
}
