// One conversation: a room's connection, its window, and what happens between them.

import { announce, composing } from "./a11y.js";
import { Composer } from "./composer.js";
import { calm, drawing, el, name, redraw, setText } from "./dom.js";
import { tell } from "./notify.js";
import { ApiError } from "./protocol.js";
import { play } from "./sounds.js";
import { Transcript } from "./transcript.js";
import { playWink } from "./winks.js";

const RECEIPTS = 20; // of a history, this many of the latest are acknowledged one by one
const SHAKE_MS = 700;
const { format: counted } = new Intl.NumberFormat("en");
/** @type {Record<string, string>} */
const WAITING = {
  connecting: "Connecting…",
  waiting: "Reconnecting… What you write is kept and goes out by itself.",
  offline: "You are offline. What you write is kept and goes out by itself.",
};

export class Conversation {
  #app;
  #store;
  #room;
  #wasOpen = false;
  #told = 0; // the newest seq that was announced
  toName = name("");
  toMessage = el("bdi", { class: "psm" });
  toStatus = drawing("s-online", "status");
  away = el("p", { class: "awaynote", hidden: true });
  pictures = [drawing(""), drawing("")];
  crowd = el("ul", { class: "crowd" });
  here = el("h3", {}, "Here now");
  /** @type {Wire.Participant[] | undefined} */
  participants;
  /** How many are here; undefined: as many as were named. @type {number | undefined} */
  #total;

  /** @param {Client.App} app @param {string} roomId @param {Client.ConversationOptions} [options] */
  constructor(app, roomId, { active = true, at } = {}) {
    this.#app = app;
    this.#store = app.store;
    this.roomId = roomId;
    /** @type {Client.Room} */
    this.#room = app.messenger.join(roomId);
    const { me } = this.#store;
    const { other, title } = this.#store.roomOf(roomId);
    this.title = title;
    this.#told = this.#store.readMark(roomId);
    this.transcript = new Transcript(me, this.#room.isDirect, {
      older: () => this.#older(),
      retype: ({ id, content }) => {
        this.#room.discard(id);
        this.composer.put(content);
      },
      discard: (id) => this.#room.discard(id),
      retry: (id) => this.#room.retry(id),
    });
    this.composer = new Composer(title, this.#store.draft(roomId), {
      say: (text) => this.#say(text),
      nudge: () => this.#need(this.#room.nudge()),
      wink: (id) => this.#need(this.#room.wink(id)),
      typing: (is) => this.#room.typing(is),
      draft: (text) => this.#store.keepDraft(roomId, text),
    });
    this.banner = el("p", { class: "banner", role: "status", hidden: true });
    this.typing = el("p", { class: "typing", dir: "auto" });
    const content = el(
      "div",
      { class: "conversation", "data-room": roomId },
      this.#head(other),
      el(
        "div",
        { class: "talk" },
        el("div", { class: "past" }, this.transcript.element, this.transcript.newer),
        this.typing,
        this.banner,
        this.composer.element,
      ),
      this.#side(other),
    );
    this.element = content;
    this.window = app.desktop.open({
      id: roomId,
      title,
      icon: this.#icon(other),
      content,
      at,
      active,
      onclose: () => app.closed(this),
      onactive: () => this.looked(),
    });
    this.window.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented && !composing(event)) this.window.close();
    });
    this.#listen();
    for (const line of this.#room.outbox.lines) this.transcript.addPending(line);
    if (active) this.looked();
  }

  /** Whether somebody can see the newest line now. */
  get isLookedAt() {
    return this.window?.isActive && !this.window.element.hidden && !document.hidden && document.hasFocus();
  }

  /** The person is here: all of it is read. */
  looked() {
    if (!this.isLookedAt) return;
    const all = [...this.#room.messages.values()].filter(({ senderId }) => senderId !== this.#store.me.id);
    const latest = all.sort((a, b) => a.seq - b.seq).slice(-RECEIPTS);
    for (const message of latest) this.#room.acknowledge(message, "read");
    const top = Math.max(0, ...this.#room.messages.keys());
    this.#store.markRead(this.roomId, top);
    this.#told = Math.max(this.#told, top);
    this.window.flag(0);
  }

  /** Names and statuses may have changed. */
  refresh() {
    const { other, title } = this.#store.roomOf(this.roomId);
    this.title = title;
    this.window.rename(title, this.#icon(other));
    this.#here();
    if (!other) return;
    redraw(this.pictures[0], `a-${other.avatarId}`);
    redraw(this.pictures[1], `a-${this.#store.me.avatarId}`);
    setText(this.toName, other.displayName);
    setText(this.toMessage, other.personalMessage ?? "");
    redraw(this.toStatus, `s-${other.status ?? "offline"}`);
    this.away.hidden = other.status === "online" || other.isAiBot;
    /** @type {Record<string, string>} */
    const how = { busy: "may not reply: they are busy", away: "may not reply: they are away" };
    setText(this.away, `${other.displayName} ${how[other.status] ?? "is offline and will find this later"}.`);
  }

  close() {
    this.#app.messenger.leave(this.roomId);
  }

  /** @param {Wire.User} [other] */
  #icon(other) {
    return other ? `s-${other.status ?? "offline"}` : this.roomId === "music" ? "a-music" : "a-room";
  }

  /** @param {Wire.User} [other] */
  #head(other) {
    setText(this.toName, this.title);
    const to = el("p", { class: "to" }, el("span", { class: "soft" }, "To: "), other && this.toStatus, this.toName, " ", this.toMessage);
    return el("div", { class: "head" }, el("div", { class: "top" }, to, !other && this.#peopleButton()), this.away);
  }

  // Where there is no place for the list beside the messages.
  #peopleButton() {
    const toggle = () => {
      const shown = this.element.classList.toggle("showside");
      button.setAttribute("aria-expanded", String(shown));
    };
    const button = el("button", { type: "button", class: "people", "aria-expanded": "false", onclick: toggle }, drawing("i-people"), " People");
    return button;
  }

  /** @param {Wire.User} [other] */
  #side(other) {
    if (other) {
      const pictures = this.pictures.map((each) => el("div", { class: "picture" }, each));
      return el("div", { class: "side" }, pictures);
    }
    return el("div", { class: "side" }, this.here, this.crowd);
  }

  #listen() {
    const room = this.#room;
    room.on("messages", (batch) => this.#messages(batch));
    room.on("pending", ({ line }) => this.transcript.addPending(line));
    room.on("failed", ({ line }) => {
      this.transcript.fail(line);
      announce(`Not sent: ${line.failed}`, true);
    });
    room.on("dropped", ({ id }) => this.transcript.drop(id));
    room.on("delayed", ({ retryAfterMs }) => this.#notice(`Slow down a little: the rest goes out in ${seconds(retryAfterMs)}.`));
    room.on("status", ({ message }) => this.transcript.setStatus(message));
    room.on("receipt", ({ status, senderId }) => {
      // Read by oneself on another screen.
      if (senderId === this.#store.me.id && status === "read") this.#readElsewhere();
    });
    room.on("typing", ({ names }) => this.#types(names));
    room.on("participants", ({ participants, total }) => {
      this.#total = total;
      this.#here(participants);
    });
    room.on("system", ({ content }) => {
      if (!content.startsWith("Connected to")) this.transcript.notice(content, "system");
    });
    room.on("gap", () => this.#notice("Some messages in between are no longer kept."));
    room.on("rewound", () => this.transcript.clear());
    room.on("refused", (refusal) => this.#refused(refusal));
    // What was looked at while the line was cut is told now.
    room.on("settled", () => this.looked());
    room.on("state", (state) => this.#state(state));
    room.on("final", ({ code }) => this.#final(code));
    this.#state(room);
    this.refresh();
  }

  /** @param {Client.RoomEvents["messages"]} batch */
  #messages({ messages, live }) {
    this.transcript.setEarlier(this.#room.before !== undefined);
    this.transcript.add(messages);
    const others = messages.filter(({ senderId }) => senderId !== this.#store.me.id);
    for (const message of messages) {
      if (message.isWink) playWink(message, this.window.element, this.#app.messenger.clock);
      if (message.isNudge && live) this.#shake(message);
    }
    const news = others.filter(({ seq }) => seq > this.#told);
    this.#told = Math.max(this.#told, ...messages.map(({ seq }) => seq));
    if (this.isLookedAt) this.looked();
    else {
      for (const message of others.slice(-RECEIPTS)) this.#room.acknowledge(message, "delivered");
      this.#count();
    }
    const last = news.at(-1);
    if (last && this.#wasOpen) this.#tell(last, news.length);
  }

  /** What was not looked at: after the mark, and after one's own last word. */
  #count() {
    const mark = this.#store.readMark(this.roomId);
    const all = [...this.#room.messages.values()].sort((a, b) => b.seq - a.seq);
    const known = all.findIndex(({ seq, senderId }) => seq <= mark || senderId === this.#store.me.id);
    const count = known < 0 ? all.length : known;
    this.#store.setUnread(this.roomId, count);
    this.window.flag(count);
  }

  #readElsewhere() {
    if (this.isLookedAt) return;
    this.#store.markRead(this.roomId, Math.max(0, ...this.#room.messages.keys()));
    this.window.flag(0);
  }

  /** @param {Wire.Message} message @param {number} count */
  #tell(message, count) {
    const { displayName: title, content } = message;
    announce(message.isNudge ? `${title} sent you a nudge` : message.isWink ? `${title} sent a wink` : `${title} says: ${content}`);
    if (this.isLookedAt) {
      if (!message.isNudge && !message.isWink) play("message");
      return;
    }
    const sender = this.#store.person(message.senderId);
    tell({
      title: this.#room.isDirect ? title : `${title} in ${this.title}`,
      text: count > 1 ? `${count} new messages. ${content}` : content,
      icon: sender ? `a-${sender.avatarId}` : "a-person",
      tag: this.roomId,
      sound: message.isNudge || message.isWink ? undefined : "message",
      open: () => this.window.activate(),
    });
  }

  /** @param {Wire.Message} message */
  #shake({ senderId }) {
    if (senderId !== this.#store.me.id) {
      // A nudge is meant to be noticed; the keyboard stays where it is.
      if (this.window.element.hidden) this.window.activate({ focus: false });
      play("nudge");
    }
    const { element } = this.window;
    element.dataset.nudges = String(Number(element.dataset.nudges ?? 0) + 1);
    element.classList.add("nudged");
    setTimeout(() => element.classList.remove("nudged"), SHAKE_MS);
    if (calm.matches) return;
    const frames = [0, -9, 8, -7, 9, -8, 6, -4, 3, 0].map((x, i) => ({
      transform: `translate(${x}px, ${i % 2 ? 4 : -4}px)`,
    }));
    frames[0].transform = frames[frames.length - 1].transform = "none";
    element.animate(frames, { duration: SHAKE_MS });
  }

  /** @param {string} text */
  #say(text) {
    const line = this.#room.say(text);
    if (!line) this.#notice("Too much waits to be sent already. Your text stays here.");
    return Boolean(line);
  }

  /** @param {unknown} sent */
  #need(sent) {
    if (!sent) this.#notice("That needs a connection. Try again when you are back.");
  }

  /** @param {Client.RoomEvents["refused"]} refusal */
  #refused({ kind, code, message, retryAfterMs = 0 }) {
    if (kind === "nudge") this.#notice(`You may not nudge that often. Wait ${seconds(retryAfterMs)}.`);
    else if (code === "RATE_LIMITED") this.#notice(`Too many at once. Wait ${seconds(retryAfterMs)}.`);
    else this.#notice(message);
  }

  /** @param {string} text */
  #notice(text) {
    this.transcript.notice(text, "warning");
    announce(text);
  }

  /** @param {string[]} names */
  #types(names) {
    const who = new Intl.ListFormat("en").format(names.slice(0, 3));
    setText(this.typing, names.length ? `${who} ${names.length > 1 ? "are" : "is"} typing…` : "");
  }

  #here(participants = this.participants) {
    this.participants = participants;
    if (!participants) return;
    const of = this.#total === undefined ? "" : ` of ${counted(this.#total)}`;
    setText(this.here, `Here now (${participants.length}${of})`);
    this.crowd.replaceChildren(
      ...participants.map((each) => {
        // A room that sleeps tells nothing; presence always does.
        const { id, displayName, status } = this.#store.person(each.id) ?? each;
        return el("li", {}, drawing(`s-${status}`, "status", status), this.#person(id, displayName));
      }),
    );
  }

  /** @param {string} id @param {string} displayName */
  #person(id, displayName) {
    if (id === this.#store.me.id) return name(displayName);
    return el("button", { type: "button", class: "link", onclick: () => this.#app.open(this.#store.directRoom(id)) }, name(displayName));
  }

  /** @param {Client.SocketState} state */
  #state({ state, why }) {
    this.element.dataset.state = state;
    this.#wasOpen ||= state === "open";
    this.banner.hidden = state === "open" || state === "closed";
    // An attempt may take long, and what is written is kept meanwhile too.
    const told = this.#wasOpen && state === "connecting" ? "waiting" : state;
    setText(this.banner, why ? `${why} What you write is kept.` : (WAITING[told] ?? ""));
  }

  /** @param {Client.Final["code"]} code */
  #final(code) {
    /** @type {Record<string, string>} */
    const why = {
      4503: "You may not be in this room.",
      NOT_A_PARTICIPANT: "You may not be in this room.",
      ROOM_NOT_FOUND: "There is no such room.",
      4508: "The server has stopped listening to this tab.",
    };
    this.#notice(`${why[code] ?? "This conversation has ended."} (${code})`);
    this.composer.close();
  }

  async #older() {
    try {
      await this.#room.older();
    } catch (error) {
      this.#notice(`Earlier messages could not be loaded. ${ApiError.of(error).message}`);
    }
    this.transcript.setEarlier(this.#room.before !== undefined);
  }
}

/** @param {number} ms */
function seconds(ms) {
  const whole = Math.max(1, Math.ceil(ms / 1000));
  return `${whole} ${whole === 1 ? "second" : "seconds"}`;
}
