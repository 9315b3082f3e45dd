// The log of a conversation: messages in seq order, days, notices, ticks.

import { el, name, setText, within } from "./dom.js";
import { withEmoticons } from "./emoticons.js";
import { partsOf } from "./links.js";
import { nameOf } from "./wink_scenes.js";

const GROUP_MS = 5 * 60_000;
const NEAR_PX = 60;
/** @type {Record<string, number>} */
const RANK = { sending: 0, sent: 1, delivered: 2, read: 3 };
/** @type {Record<Client.Tick, [mark: string, label: string]>} */
const TICKS = {
  sending: ["…", "Sending"],
  sent: ["✓", "Sent"],
  delivered: ["✓✓", "Delivered"],
  read: ["✓✓", "Read"],
};
const BACK = "previousElementSibling";
const ON = "nextElementSibling";
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export class Transcript {
  #me;
  #direct;
  /** By seq. @type {Map<number, Client.LineElement>} */
  #nodes = new Map();
  /** By id. @type {Map<string, Client.LineElement>} */
  #pending = new Map();
  #loading = false;

  /** @param {Wire.User} me @param {boolean} direct @param {Client.TranscriptActions} actions */
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

  /** @param {boolean} there */
  setEarlier(there) {
    this.earlier.hidden = !there;
  }

  /** Adds messages, wherever in the order they belong. @param {Wire.Message[]} messages */
  add(messages) {
    const { element } = this;
    const fromEnd = element.scrollHeight - element.scrollTop;
    let back = false;
    for (const message of messages) {
      this.#pending.get(message.id)?.remove();
      this.#pending.delete(message.id);
      const node = this.#node(message);
      const next = this.#after(message.seq);
      back ||= Boolean(next?.dataset.seq);
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

  /** A line of one's own that has no echo yet. @param {Client.Line} line */
  addPending(line) {
    const { frame, at } = line;
    const { id: senderId, displayName } = this.#me;
    const node = this.#node({ content: "", ...frame, senderId, displayName, timestamp: at });
    node.classList.add("pending");
    this.lines.append(node);
    this.#pending.set(frame.id, node);
    this.#dress(node);
    this.#tick(node, "sending");
    if (line.failed) this.fail(line);
    this.#settle(true);
  }

  /** @param {Client.Line} line */
  fail({ frame, failed, again }) {
    const node = this.#pending.get(frame.id);
    if (!node || node.classList.contains("failed")) return;
    node.classList.add("failed");
    const { retype, discard, retry } = this.actions;
    /** @param {string} label @param {() => void} work */
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

  /** @param {string} id */
  drop(id) {
    this.#pending.get(id)?.remove();
    this.#pending.delete(id);
  }

  clear() {
    for (const node of this.#nodes.values()) node.remove();
    this.#nodes.clear();
  }

  /** A line that is not from a person. @param {string} text */
  notice(text, className = "") {
    const node = el("p", { class: `notice ${className}`, dir: "auto" }, text);
    this.lines.insertBefore(node, this.#firstPending());
    this.#settle(false);
    return node;
  }

  /**
   * The status a receipt gave; in a direct room all lines before it have it too.
   * @param {Wire.Message} message
   */
  setStatus({ seq, senderId, status }) {
    if (senderId !== this.#me.id) return;
    const shown = this.#nodes.get(seq);
    if (shown) this.#tick(shown, status ?? "sent");
    if (!this.#direct || !status) return;
    for (let node = previous(shown); node; node = previous(node)) {
      if (node.classList.contains("mine") && !this.#tick(node, status)) return;
    }
  }

  toEnd() {
    this.#stuck = true;
    this.newer.hidden = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** @param {boolean} own */
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

  /** @param {number} seq @returns {Client.LineElement | null} */
  #after(seq) {
    let next = this.#firstPending();
    let at = next ? previous(next) : lineAt(this.lines.lastElementChild, BACK);
    for (; at; at = previous(at)) {
      if (!at.dataset.seq) continue;
      if (Number(at.dataset.seq) < seq) return next;
      next = at;
    }
    return next;
  }

  #firstPending() {
    return this.#pending.values().next().value ?? null;
  }

  /** @param {Client.Shown} shown @returns {Client.LineElement} */
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
      { class: `message ${kind} ${mine ? "mine" : "theirs"}`, "data-seq": seq?.toString(), "data-id": id, "data-sender": senderId },
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
    return Object.assign(node, { timestamp, sender: senderId, who: displayName, kind });
  }

  /**
   * What depends on the line before: the day and whose turn it is.
   * @param {Client.LineElement | null} [node]
   */
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
    within(node, ".day").hidden = !newDay;
    within(node, ".says").hidden = node.kind !== "chat" || Boolean(sameTurn);
  }

  /**
   * Shows a status; false if it had that or a higher one.
   * @param {Client.LineElement} node
   * @param {Client.Tick} status
   */
  #tick(node, status) {
    /** @type {HTMLElement | null} */
    const tick = node.querySelector(".tick");
    if (!tick || (RANK[tick.dataset.status ?? ""] ?? -1) >= RANK[status]) return false;
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

/** @param {Client.LineElement} node */
const dayOf = ({ timestamp }) => new Date(timestamp).toDateString();

/** @param {Client.LineElement} [node] */
const previous = (node) => lineAt(node?.[BACK], BACK);
/** @param {Client.LineElement} node */
const following = (node) => lineAt(node[ON], ON);

/**
 * The first message from there, past notices.
 * @param {Element | null | undefined} at
 * @param {typeof BACK | typeof ON} way
 */
function lineAt(at, way) {
  while (at && !at.classList.contains("message")) at = at[way];
  return /** @type {Client.LineElement | null | undefined} */ (at);
}

/** A message's text: links that are safe to follow, and emoticons. @param {string} text */
function rich(text) {
  const attributes = { target: "_blank", rel: "noopener noreferrer", dir: "ltr" };
  return partsOf(text).flatMap((part) =>
    "href" in part ? el("a", { ...attributes, href: part.href }, part.address) : withEmoticons(part.text),
  );
}
