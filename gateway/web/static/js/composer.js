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

  /** @param {string} title @param {string} draft @param {Client.ComposerActions} actions */
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

  /** Text comes back to be changed: what was being written stays after it. @param {string} text */
  put(text) {
    this.box.value = this.box.value ? `${text}\n${this.box.value}` : text;
    this.box.focus();
    this.#typed();
  }

  /** Nothing can be said here any more. */
  close() {
    for (const each of [this.box, ...this.element.querySelectorAll("button")]) each.disabled = true;
  }

  #emoticons() {
    const items = EMOTICONS.map(([id, label, code]) => {
      const onclick = () => {
        menu.close();
        this.#insert(code);
      };
      const title = `${label} ${code}`;
      return el("button", { type: "button", title, "aria-label": title, onclick }, drawing(`e-${id}`, "emoticon"));
    });
    const menu = this.#menu("e-smile", "Emoticons", "emoticons", items, 8);
    return menu.box;
  }

  #winks() {
    const { items, paint } = winkMenu((id) => {
      menu.close();
      this.#actions.wink(id);
    });
    const menu = this.#menu("i-wink", "Winks", "winks", items, 4);
    menu.button.addEventListener("click", paint);
    return menu.box;
  }

  /**
   * @param {string} icon
   * @param {string} label
   * @param {string} className
   * @param {HTMLElement[]} items
   * @param {number} columns
   */
  #menu(icon, label, className, items, columns) {
    const panel = el("div", { class: `menu ${className}`, role: "group", "aria-label": label }, items);
    const button = el("button", { type: "button", class: "tool" }, drawing(icon), el("span", {}, label));
    const close = popover(button, panel);
    roving(panel, () => items, { horizontal: true, columns })();
    return { box: el("div", { class: "menubox" }, button, panel), button, close };
  }

  #nudge() {
    return el(
      "button",
      { type: "button", class: "tool nudger", onclick: () => this.#actions.nudge() },
      drawing("i-nudge"),
      el("span", {}, "Nudge"),
    );
  }

  /** @param {string} code */
  #insert(code) {
    const { box } = this;
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

  /** @param {KeyboardEvent} event */
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
