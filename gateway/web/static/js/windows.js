// Windows on a desktop, tabs on a phone: the same elements, the same bar of buttons.
//
// Pointer: drag the title, drag the corner (CSS resize). Keyboard: F6 goes round the
// windows, Ctrl+Alt+arrows move the active one, with Shift they resize it.

import { announce, roving } from "./a11y.js";
import { drawing, el, iconButton, phone, redraw, setText, touch } from "./dom.js";

const STEP = 24;
const EDGE = 60; // this much of a window always stays in sight

export class Desktop {
  /** @type {Map<string, Win>} */
  windows = new Map();
  /** @type {Win | undefined} */
  active;
  #top = 1;
  #placed = 0;

  /** @param {Element} root */
  constructor(root) {
    this.stage = el("div", { class: "stage" });
    this.tasks = el("div", { class: "tasks" });
    this.tray = el("div", { class: "tray", role: "group", "aria-label": "Connection and settings" });
    const bar = el("div", { class: "taskbar" }, this.tasks, this.tray);
    root.replaceChildren(el("h1", { class: "unseen" }, "CF Messenger"), this.stage, bar);
    const tasks = () => [...this.windows.values()].map(({ task }) => task);
    this.settleTasks = roving(this.tasks, tasks, { horizontal: true });
    addEventListener("keydown", this.#onKey);
    addEventListener("resize", this.#onResize);
    phone.addEventListener("change", this.#onResize);
    this.#roles();
  }

  close() {
    removeEventListener("keydown", this.#onKey);
    removeEventListener("resize", this.#onResize);
    phone.removeEventListener("change", this.#onResize);
  }

  /**
   * Opens a window; without `at` it is put beside the last one.
   * @param {Client.WindowOptions & Client.ConversationOptions} options
   */
  open({ at, active = true, ...options }) {
    const made = new Win(this, options);
    this.windows.set(made.id, made);
    this.stage.append(made.element);
    this.tasks.append(made.task);
    made.place(at ?? this.#nextPlace());
    this.#roles();
    if (active) made.activate();
    else made.minimise();
    this.settleTasks();
    return made;
  }

  /** @param {Win} made */
  raise(made) {
    made.element.style.zIndex = String(++this.#top);
    if (this.active === made) return;
    this.active = made;
    for (const each of this.windows.values()) each.show();
    made.told.onactive?.();
  }

  /** The window that was looked at before. */
  fallBack() {
    const [next] = [...this.windows.values()]
      .filter(({ element }) => !element.hidden)
      .sort((a, b) => Number(b.element.style.zIndex) - Number(a.element.style.zIndex));
    this.active = undefined;
    if (next) next.activate();
    else for (const each of this.windows.values()) each.show();
  }

  #nextPlace() {
    const { clientWidth: w, clientHeight: h } = this.stage;
    const width = Math.min(500, w - 40);
    const height = Math.min(450, h - 40);
    const n = this.#placed++;
    // Beside the contact list, as long as there is room.
    const spread = Math.max(60, w - width - 360);
    const drop = Math.max(60, h - height - 20);
    return { width, height, x: 20 + ((n % 3) * spread) / 2, y: 16 + ((n % 4) * drop) / 3 };
  }

  #roles() {
    const tabs = phone.matches;
    /** @param {Element} element @param {string} value */
    const role = (element, value) =>
      tabs ? element.setAttribute("role", value) : element.removeAttribute("role");
    role(this.tasks, "tablist");
    if (!tabs) this.tasks.setAttribute("role", "toolbar");
    this.tasks.setAttribute("aria-label", tabs ? "Conversations" : "Open windows");
    for (const { task, element } of this.windows.values()) {
      role(task, "tab");
      role(element, "tabpanel");
    }
    for (const each of this.windows.values()) each.show();
  }

  #onResize = () => {
    this.#roles();
    for (const each of this.windows.values()) each.keepInSight();
  };

  /** @param {KeyboardEvent} event */
  #onKey = (event) => {
    if (event.key === "F6") {
      event.preventDefault();
      const all = [...this.windows.values()];
      const step = event.shiftKey ? all.length - 1 : 1;
      all[(all.findIndex(({ isActive }) => isActive) + step) % all.length]?.activate();
      return;
    }
    if (!event.ctrlKey || !event.altKey || !this.active || phone.matches) return;
    /** @type {Record<string, number[]>} */
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!Object.hasOwn(ways, event.key)) return;
    event.preventDefault();
    const [dx, dy] = ways[event.key].map((each) => each * STEP);
    if (event.shiftKey) this.active.grow(dx, dy);
    else this.active.move(dx, dy);
  };
}

export class Win {
  /** @param {Desktop} desktop @param {Client.WindowOptions} options */
  constructor(desktop, { id, title, icon, content, ...told }) {
    this.desktop = desktop;
    this.id = id;
    this.told = told;
    const key = `window-${id}`;
    this.icon = drawing(icon, "glyph");
    this.title = el("bdi", {}, title);
    this.heading = el("h2", { id: `${key}-title` }, this.title);
    const buttons = el(
      "div",
      { class: "buttons" },
      iconButton("i-min", "Minimise", () => this.minimise(), "min"),
      iconButton("i-max", "Maximise", () => this.maximise(), "max"),
      told.onclose && iconButton("i-close", "Close", () => this.close(), "close"),
    );
    this.bar = el("header", { class: "titlebar" }, this.icon, this.heading, buttons);
    this.body = el("div", { class: "content" }, content);
    this.element = el(
      "section",
      { class: "window", id: key, tabindex: "-1", "aria-labelledby": `${key}-title`, "data-window": id },
      this.bar,
      this.body,
    );
    this.taskIcon = drawing(icon, "glyph");
    this.badge = el("span", { class: "badge", hidden: true });
    this.news = el("span", { class: "unseen" });
    this.taskTitle = el("bdi", { class: "label" }, title);
    this.task = el(
      "button",
      { type: "button", class: "task", "aria-controls": key, "data-task": id, tabindex: "-1" },
      this.taskIcon,
      this.taskTitle,
      this.badge,
      this.news,
    );
    this.task.addEventListener("click", () => {
      if (desktop.active === this && !phone.matches) this.minimise();
      else this.activate();
    });
    this.element.addEventListener("pointerdown", () => this.#raise(), true);
    this.element.addEventListener("focusin", () => this.#raise());
    this.#draggable();
  }

  get isActive() {
    return this.desktop.active === this;
  }

  /** @param {string} title @param {string} icon */
  rename(title, icon) {
    setText(this.title, title);
    setText(this.taskTitle, title);
    for (const each of [this.icon, this.taskIcon]) redraw(each, icon);
  }

  /** Brings it up and puts the keyboard where this window wants it. */
  activate({ focus = true } = {}) {
    this.element.hidden = false;
    this.#raise();
    if (focus) this.focus();
  }

  focus() {
    // Where a keyboard on the screen would come up, it comes when it is asked for.
    /** @type {HTMLElement | null} */
    const wanted = touch.matches ? null : this.element.querySelector("[data-focus]");
    if (!this.element.contains(document.activeElement)) (wanted ?? this.element).focus();
  }

  minimise() {
    const had = this.element.contains(document.activeElement);
    this.element.hidden = true;
    this.desktop.fallBack();
    if (had && !this.desktop.active) this.task.focus();
  }

  maximise() {
    this.element.classList.toggle("maximised");
  }

  close() {
    this.desktop.windows.delete(this.id);
    this.element.remove();
    this.task.remove();
    this.desktop.settleTasks();
    this.desktop.fallBack();
    this.told.onclose?.();
    announce("Window closed");
  }

  /** Something happened that was not looked at. @param {number} count */
  flag(count) {
    this.badge.hidden = !count;
    setText(this.badge, count ? String(count) : "");
    this.task.classList.toggle("flashing", count > 0);
    setText(this.news, count ? " new" : "");
  }

  show() {
    const { isActive } = this;
    this.element.classList.toggle("active", isActive);
    this.task.classList.toggle("active", isActive);
    this.task.removeAttribute("aria-selected");
    this.task.removeAttribute("aria-pressed");
    this.task.setAttribute(phone.matches ? "aria-selected" : "aria-pressed", String(isActive));
  }

  /** @param {Client.Place} place */
  place({ x, y, width, height }) {
    Object.assign(this.element.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
    this.keepInSight();
  }

  /** @param {number} dx @param {number} dy */
  move(dx, dy) {
    const { offsetLeft, offsetTop, style } = this.element;
    style.left = `${offsetLeft + dx}px`;
    style.top = `${offsetTop + dy}px`;
    this.keepInSight();
  }

  /** @param {number} dx @param {number} dy */
  grow(dx, dy) {
    const { offsetWidth, offsetHeight, style } = this.element;
    style.width = `${offsetWidth + dx}px`;
    style.height = `${offsetHeight + dy}px`;
  }

  keepInSight() {
    const { clientWidth, clientHeight } = this.desktop.stage;
    const { style } = this.element;
    const left = Number.parseFloat(style.left);
    const top = Number.parseFloat(style.top);
    const width = Number.parseFloat(style.width);
    style.left = `${Math.min(Math.max(left, EDGE - width), Math.max(0, clientWidth - EDGE))}px`;
    style.top = `${Math.min(Math.max(top, 0), Math.max(0, clientHeight - EDGE))}px`;
  }

  #raise() {
    this.desktop.raise(this);
  }

  #draggable() {
    const { bar } = this;
    /** @type {{ x: number, y: number } | undefined} */
    let from;
    /** @param {Event} event */
    const onButton = ({ target }) => target instanceof Element && target.closest("button");
    bar.addEventListener("pointerdown", (event) => {
      if (event.button || onButton(event) || phone.matches) return;
      if (this.element.classList.contains("maximised")) return;
      from = { x: event.clientX, y: event.clientY };
      bar.setPointerCapture(event.pointerId);
    });
    bar.addEventListener("pointermove", ({ clientX, clientY }) => {
      if (!from) return;
      this.move(clientX - from.x, clientY - from.y);
      from = { x: clientX, y: clientY };
    });
    for (const type of ["pointerup", "pointercancel"]) {
      bar.addEventListener(type, () => (from = undefined));
    }
    bar.addEventListener("dblclick", (event) => {
      if (!onButton(event)) this.maximise();
    });
  }
}
