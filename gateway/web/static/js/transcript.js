// The log of a conversation: messages in seq order, days, notices, ticks.

import { el, name, setText } from "./dom.js";
import { rich } from "./text.js";
import { nameOf } from "./wink_scenes.js";

const GROUP_MS = 5 * 60_000;
const NEAR_PX = 60;
const RANK = { sending: 0, sent: 1, delivered: 2, read: 3 };
const TICKS = {
  sending: ["…", "Sending"],
  sent: ["✓", "Sent"],
  delivered: ["✓✓", "Delivered"],
  read: ["✓✓", "Read"],
};
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export class Transcript {
  #me;
  #direct;
  #nodes = new Map(); // seq → element
  #pending = new Map(); // id → element
  #loading = false;

  /**
   * `actions`: `older()` loads a page; `retype(line)`, `discard(id)` and `retry(id)` for
   * failed lines.
   */
  constructor(me, direct, actions) {
    this.#me = me;
    this.#direct = direct;
    this.actions = actions;
    this.earlier = el(
      "button",
      { type: "button", class: "earlier", hidden: true, onclick: () => this.#older() },
      "Show earlier messages",
    );
    this.lines = el("div", { class: "lines" });
    this.element = el(
      "div",
      // Spoken by our own live region: paging back must not be read aloud.
      { class: "log", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: "0" },
      this.earlier,
      this.lines,
    );
    this.newer = el(
      "button",
      { type: "button", class: "newer", hidden: true, onclick: () => this.toEnd() },
      "New messages ↓",
    );
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#stuck && this.toEnd()).observe(this.element);
  }

  #stuck = true; // at the end, where new lines are seen

  setEarlier(there) {
    this.earlier.hidden = !there;
  }

  /** Adds messages, wherever in the order they belong. */
  add(messages) {
    const { element } = this;
    const fromEnd = element.scrollHeight - element.scrollTop;
    let back = false;
    for (const message of messages) {
      this.#pending.get(message.id)?.remove();
      this.#pending.delete(message.id);
      const node = this.#node(message);
      const next = this.#after(message.seq);
      back ||= next?.dataset.seq !== undefined;
      this.lines.insertBefore(node, next);
      this.#nodes.set(message.seq, node);
      this.#dress(node);
      this.#dress(following(node));
      if (this.#direct && message.senderId !== this.#me.id) continue;
      this.setStatus(message);
    }
    if (back) element.scrollTop = element.scrollHeight - fromEnd;
    else this.#settle(messages.some(({ senderId }) => senderId === this.#me.id));
  }

  /** A line of one's own that has no echo yet. */
  addPending({ frame, at, failed, again }) {
    const { id, type } = frame;
    const message = { ...frame, type, senderId: this.#me.id, displayName: this.#me.displayName, timestamp: at };
    const node = this.#node({ content: "", ...message });
    node.classList.add("pending");
    this.lines.append(node);
    this.#pending.set(id, node);
    this.#dress(node);
    this.#tick(node, "sending");
    if (failed) this.fail({ frame, failed, again });
    this.#settle(true);
  }

  fail({ frame, failed, again }) {
    const node = this.#pending.get(frame.id);
    if (!node || node.classList.contains("failed")) return;
    node.classList.add("failed");
    const { retype, discard, retry } = this.actions;
    const choice = (label, work) => el("button", { type: "button", onclick: work }, label);
    node.append(
      el(
        "p",
        { class: "why" },
        `Not sent: ${failed} `,
        again && choice("Try again", () => retry(frame.id)),
        frame.type === "chat" && choice("Edit", () => retype(frame)),
        choice("Discard", () => discard(frame.id)),
      ),
    );
    this.#settle(true);
  }

  drop(id) {
    this.#pending.get(id)?.remove();
    this.#pending.delete(id);
  }

  clear() {
    for (const node of this.#nodes.values()) node.remove();
    this.#nodes.clear();
  }

  /** A line that is not from a person. */
  notice(text, className = "") {
    const node = el("p", { class: `notice ${className}`, dir: "auto" }, text);
    this.lines.insertBefore(node, this.#firstPending());
    this.#settle(false);
    return node;
  }

  /** The status a receipt gave; in a direct room all lines before it have it too. */
  setStatus({ seq, senderId, status = "sent" }) {
    if (senderId !== this.#me.id) return;
    let node = this.#nodes.get(seq);
    if (node) this.#tick(node, status);
    if (!this.#direct || status === "sent") return;
    while ((node = previous(node))) {
      if (node.classList.contains("mine") && !this.#tick(node, status)) return;
    }
  }

  toEnd() {
    this.#stuck = true;
    this.newer.hidden = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  #settle(own) {
    if (this.#stuck || own) this.toEnd();
    else this.newer.hidden = false;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    this.#stuck = scrollHeight - clientHeight - scrollTop < NEAR_PX;
    if (this.#stuck) this.newer.hidden = true;
    if (scrollTop < NEAR_PX && !this.#stuck) this.#older();
  }

  async #older() {
    if (this.#loading || this.earlier.hidden) return;
    this.#loading = true;
    setText(this.earlier, "Loading…");
    const had = document.activeElement === this.earlier;
    await this.actions.older();
    setText(this.earlier, "Show earlier messages");
    this.#loading = false;
    if (had && this.earlier.hidden) this.element.focus();
  }

  #after(seq) {
    let next = this.#firstPending();
    let at = next ? next.previousElementSibling : this.lines.lastElementChild;
    while (at) {
      if (at.dataset.seq !== undefined) {
        if (Number(at.dataset.seq) < seq) return next;
        next = at;
      }
      at = at.previousElementSibling;
    }
    return next;
  }

  #firstPending() {
    return this.#pending.values().next().value ?? null;
  }

  #node({ type, id, seq, senderId, displayName, content, timestamp, winkId, isNudge, isWink }) {
    const mine = senderId === this.#me.id;
    const kind = isNudge ? "nudge" : isWink ? "wink" : type;
    const when = new Date(timestamp);
    const who = mine ? "You" : displayName;
    const body =
      kind === "nudge"
        ? [mine ? "You have sent a nudge." : el("span", {}, name(displayName), " has sent you a nudge!")]
        : kind === "wink"
          ? [name(who), ` sent a wink: ${nameOf(winkId ?? "")}`]
          : rich(content);
    const node = el(
      "div",
      { class: `message ${kind} ${mine ? "mine" : "theirs"}`, "data-seq": seq, "data-id": id, "data-sender": senderId },
      el("p", { class: "day", hidden: true }, el("span", {}, day.format(when))),
      el("p", { class: "says", hidden: true }, name(displayName), " says:"),
      el(
        "div",
        { class: "line" },
        el("p", { class: "text", dir: "auto" }, body),
        el(
          "span",
          { class: "when" },
          el("time", { datetime: when.toISOString(), title: full.format(when) }, clock.format(when)),
          mine && el("span", { class: "tick" }),
        ),
      ),
    );
    Object.assign(node, { timestamp, sender: senderId, who: displayName, kind });
    return node;
  }

  /** What depends on the line before: the day and whose turn it is. */
  #dress(node) {
    if (!node) return;
    const before = previous(node);
    const newDay = !before || dayOf(before) !== dayOf(node);
    const sameTurn =
      before &&
      !newDay &&
      before.sender === node.sender &&
      before.who === node.who &&
      before.kind === "chat" &&
      node.timestamp - before.timestamp < GROUP_MS;
    node.querySelector(".day").hidden = !newDay;
    node.querySelector(".says").hidden = node.kind !== "chat" || Boolean(sameTurn);
  }

  /** Shows a status; false if it had that or a higher one. */
  #tick(node, status) {
    const tick = node.querySelector(".tick");
    if (!tick || (RANK[tick.dataset.status] ?? -1) >= RANK[status]) return false;
    const [mark, label] = TICKS[status];
    tick.dataset.status = status;
    tick.setAttribute("title", label);
    tick.replaceChildren(
      el("span", { "aria-hidden": "true" }, mark),
      el("span", { class: "unseen" }, label),
    );
    return true;
  }
}

const dayOf = ({ timestamp }) => new Date(timestamp).toDateString();

function previous(node) {
  let at = node?.previousElementSibling;
  while (at && !at.classList.contains("message")) at = at.previousElementSibling;
  return at;
}

function following(node) {
  let at = node.nextElementSibling;
  while (at && !at.classList.contains("message")) at = at.nextElementSibling;
  return at;
}
