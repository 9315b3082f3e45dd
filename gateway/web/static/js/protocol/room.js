// One room: its socket, its resume point and its outbox.

import { ApiError, call } from "./api.js";
import { Emitter } from "./emitter.js";
import { newId, Outbox, wellFormed } from "./outbox.js";
import { LiveSocket, policyOf } from "./socket.js";
import { Typists } from "./typists.js";

const PAGE = 50;
const NEVER = -Infinity;
const TYPING_AGAIN_MS = 2000;
const SETTLE_MS = 2000;
const RESUME_MS = 15_000;
const PATIENCE_MS = 6000;
const TRIES = 3;
const UNREADABLE_MS = 500;
// What a server says of a frame it could not read well enough to name it, and the close
// codes with which it ends a socket because of what came over it.
const UNREADABLE = ["INVALID_JSON", "VALIDATION_ERROR", "UNKNOWN_TYPE", "TOO_LARGE"];
const BLAMING = [1002, 1003, 1007, 1008, 1009, 1010, 1011];
const RANK = { sent: 1, delivered: 2, read: 3 };

/** @extends {Emitter<Client.RoomEvents>} */
export class Room extends Emitter {
  /** By seq. @type {Map<number, Wire.Message>} */
  messages = new Map();
  /** @type {Wire.Participant[]} */
  participants = [];
  /** Where the page before the oldest message ends; undefined: nothing is before. @type {number | undefined} */
  before;
  #messenger;
  #session;
  #socket;
  /** @type {number | undefined} */
  #lastSeq;

  /** Since which loss its numbers count; undefined: nothing was ever lost. @type {number | undefined} */
  #era;
  #settled = false; // what came before is known: the outbox may speak
  /** The id whose echo is awaited. @type {string | undefined} */
  #flying;
  /** The line whose echo came last. @type {Client.Line | undefined} */
  #landed;
  #waitTimer = 0;
  #typists = new Typists((names) => this.emit("typing", { names }));
  #typingSent = NEVER;
  #typingHeld = NEVER; // typed before the room could be told
  /** @type {Map<string, number>} */
  #acked = new Map();
  #failures = 0;

  /** @param {string} id @param {Client.Messenger} messenger */
  constructor(id, messenger) {
    super();
    this.id = id;
    this.#messenger = messenger;
    this.#session = messenger.session;
    this.outbox = new Outbox(this.#session.user.id, id);
    this.#socket = new LiveSocket(
      () => this.#url(),
      messenger.clock,
      (code) => this.#judge(code),
    );
    this.#socket.on("open", () => this.#opened());
    this.#socket.on("frame", (frame) => this.#frame(frame));
    this.#socket.on("state", (state) => this.#state(state));
    this.#socket.on("final", (why) => this.emit("final", why));
  }

  get state() {
    return this.#socket.state;
  }

  get isDirect() {
    return this.id.startsWith("dm_");
  }

  open() {
    this.#socket.start();
  }

  close() {
    clearTimeout(this.#waitTimer);
    this.#typists.clear();
    this.#socket.stop();
  }

  retryNow() {
    this.#socket.retryNow();
  }

  /** Says it now or as soon as possible, once; undefined if too much waits already. @param {string} content */
  say(content) {
    this.typing(false);
    return this.#enqueue({ type: "chat", content: wellFormed(content), id: newId() });
  }

  /** Only while connected: a nudge that comes later is a nuisance. */
  nudge() {
    return this.#socket.isOpen && this.#enqueue({ type: "nudge", id: newId() }, false);
  }

  /** @param {string} winkId */
  wink(winkId) {
    return this.#socket.isOpen && this.#enqueue({ type: "wink", winkId, id: newId() }, false);
  }

  /** Gives up on a line that failed. @param {string} id */
  discard(id) {
    if (this.outbox.remove(id)) this.emit("dropped", { id });
  }

  /** Says a line once more that failed and has `again`. @param {string} id */
  retry(id) {
    const line = this.outbox.get(id);
    if (!line?.again) return;
    // Whether it was accepted is not known: it stays the same message.
    const { failed, again, tries, ...rest } = line;
    this.emit("dropped", { id });
    this.emit("pending", { line: this.outbox.put(rest) });
    this.#next();
  }

  /** @param {boolean} isTyping */
  typing(isTyping) {
    const now = performance.now();
    this.#typingHeld = isTyping && !this.#settled ? now : NEVER;
    if (isTyping ? now - this.#typingSent < TYPING_AGAIN_MS : this.#typingSent < 0) return;
    this.#typingSent = isTyping && this.#settled ? now : NEVER;
    if (this.#settled) this.#socket.send({ type: "typing", isTyping });
  }

  /**
   * Tells the author; only what is news, and never about a line of one's own.
   * @param {Wire.Message} message
   * @param {Wire.Receipt} status
   */
  acknowledge(message, status) {
    if (message.senderId === this.#session.user.id) return;
    const told = Math.max(RANK[message.status ?? "sent"], this.#acked.get(message.id) ?? 1);
    if (RANK[status] <= told) return;
    const { id: ackId } = message;
    if (this.#socket.send({ type: "ack", ackId, status })) {
      this.#acked.set(ackId, RANK[status]);
    }
  }

  /** Loads the page before the oldest message; false when there is none. */
  async older() {
    if (!this.before) return false;
    const { messages, nextBefore } = await this.#session.call(
      "GET",
      `/api/rooms/${this.id}/messages?before=${this.before}&limit=${PAGE}`,
    );
    this.before = nextBefore;
    this.#take(messages, false);
    return messages.length > 0;
  }

  async #url() {
    // A browser is not told why a handshake was refused: ask the same over HTTP.
    if (this.#failures >= 2) await this.#whyNot();
    this.#failures += 1;
    const ticket = await this.#messenger.ticket();
    const since = this.#lastSeq === undefined ? "" : `&since=${this.#lastSeq}`;
    const era = since && this.#era !== undefined ? `&era=${this.#era}` : "";
    return `${socketBase()}/api/ws/room/${this.id}?ticket=${ticket}${since}${era}`;
  }

  async #whyNot() {
    const { sessionId } = this.#session;
    try {
      await call("GET", `/api/rooms/${this.id}/messages?limit=1`, { sessionId });
    } catch (error) {
      const refused = ApiError.of(error);
      refused.final = [400, 403, 404].includes(refused.status);
      if (refused.final) throw refused;
    }
  }

  #opened() {
    this.#failures = 0;
    this.#settled = false;
    this.#flying = undefined;
    this.#typingSent = NEVER;
    const resumed = this.#lastSeq !== undefined;
    this.#acked.clear(); // the last of them may have been lost with their socket
    // Without a `since` an empty room sends no history at all.
    this.#wait(resumed ? RESUME_MS : SETTLE_MS, () => this.#settle());
  }

  /** @param {Client.SocketState} state */
  #state(state) {
    if (state.state !== "open") {
      this.#settled = false;
      clearTimeout(this.#waitTimer);
      this.#typists.clear();
    }
    this.emit("state", state);
  }

  /** @param {Wire.ServerFrame} frame */
  #frame(frame) {
    if ("seq" in frame) {
      // An event, whatever its type: newer servers have others.
      this.#typists.stops(frame.senderId);
      this.#take([frame], true);
      return;
    }
    switch (frame.type) {
      case "history":
        if (this.#lastSeq !== undefined && !this.#settled) {
          const another = frame.gap && frame.era !== this.#era;
          if (another || frame.lastSeq < this.#lastSeq) this.#rewind(frame);
        }
        this.#era = frame.era;
        if (frame.gap) this.emit("gap");
        if (this.#lastSeq === undefined) this.before = earliest(frame.messages);
        this.#take(frame.messages, false);
        this.#lastSeq ??= frame.lastSeq;
        if (this.#lastSeq >= frame.lastSeq) this.#settle();
        else if (frame.gap && !frame.messages.length) {
          this.#lastSeq = frame.lastSeq;
          this.#settle();
        }
        break;
      case "participants":
        this.participants = frame.participants;
        this.emit("participants", frame);
        if (this.#lastSeq === undefined) this.#settle();
        break;
      case "typing":
        if (frame.isTyping) this.#typists.starts(frame);
        else this.#typists.stops(frame.senderId);
        break;
      case "delivery_status":
        this.#receipt(frame);
        break;
      case "system":
        this.emit("system", frame);
        break;
      case "error":
        this.#refused(frame);
        break;
      case "session_expiring":
        this.#session.expiring(frame.expiresAt);
        break;
    }
  }

  /** @param {Wire.Message[]} messages @param {boolean} live */
  #take(messages, live) {
    const fresh = messages.filter(({ seq }) => !this.messages.has(seq));
    for (const message of fresh) {
      this.messages.set(message.seq, message);
      if (message.seq > (this.#lastSeq ?? 0)) {
        this.#lastSeq = message.seq;
        this.#era = message.era ?? this.#era;
      }
    }
    if (fresh.some(({ type }) => type === "lost")) this.emit("gap");
    const shown = fresh.filter(({ type, content }) => type !== "lost" && content !== undefined);
    if (shown.length) this.emit("messages", { messages: shown, live });
    // An answer to a repeat is the original echo: seen before, and still an answer.
    for (const message of messages) {
      if (message.senderId === this.#session.user.id) this.#answered(message.id);
    }
  }

  /** The server has forgotten what we know: its disk was replaced by an older one. @param {Wire.History} frame */
  #rewind({ lastSeq }) {
    this.messages.clear();
    this.before = lastSeq ? lastSeq + 1 : undefined;
    this.#lastSeq = lastSeq;
    this.emit("rewound");
  }

  /** @param {Wire.DeliveryStatus} frame */
  #receipt(frame) {
    this.emit("receipt", frame);
    for (const message of [...this.messages.values()].reverse()) {
      if (message.id !== frame.ackId || message.senderId === frame.senderId) continue;
      if (RANK[frame.status] > RANK[message.status ?? "sent"]) {
        message.status = frame.status;
        this.emit("status", { message });
      }
      return;
    }
  }

  // The outbox: one line at a time, so that the order typed is the order kept.

  /** @param {Wire.Said} frame */
  #enqueue(frame, kept = true) {
    if (this.outbox.isFull) return undefined;
    const line = this.outbox.add(frame, { kept });
    this.emit("pending", { line });
    this.#next();
    return line;
  }

  #settle() {
    if (this.#settled || !this.#socket.isOpen) return;
    this.#settled = true;
    clearTimeout(this.#waitTimer);
    this.emit("settled");
    if (performance.now() - this.#typingHeld < TYPING_AGAIN_MS) this.typing(true);
    this.#next();
  }

  #next() {
    const line = this.outbox.head;
    if (!line || !this.#settled || this.#flying) return;
    if (!this.#socket.send(line.frame)) return;
    this.#flying = line.frame.id;
    this.#wait(PATIENCE_MS, () => {
      this.#suspect("The server gives no answer to this.");
      this.#again();
    });
  }

  // A line must not hold up those behind it for ever: one that is unanswered, unreadable
  // or the end of its socket again and again has failed. A cut line of the network is not
  // held against it, and the count outlives the page.
  /** @param {string} why */
  #suspect(why) {
    const line = this.outbox.get(this.#flying);
    this.#flying = undefined;
    if (!line) return;
    line.tries = (line.tries ?? 0) + 1;
    if (line.tries < TRIES) this.outbox.put(line);
    else this.#fail(line, why, true);
  }

  /** @param {Client.Line} line @param {string} message @param {boolean} again */
  #fail(line, message, again) {
    this.outbox.put(Object.assign(line, { failed: message, again }));
    this.emit("failed", { line });
  }

  // A fault that a line may have caused is not yet the end of the room.
  /** @param {number} code */
  #judge(code) {
    if (!BLAMING.includes(code) || !this.outbox.get(this.#flying)) return policyOf(code);
    this.#suspect("The server could not take this.");
    return "again";
  }

  #again(delayMs = 0) {
    this.#flying = undefined;
    if (delayMs) this.#wait(delayMs, () => this.#next());
    else this.#next();
  }

  /** @param {string} id */
  #answered(id) {
    this.#landed = this.outbox.get(id) ?? this.#landed;
    this.outbox.remove(id);
    if (this.#flying !== id) return;
    clearTimeout(this.#waitTimer);
    this.#again();
  }

  /** @param {Wire.Refusal} frame */
  #refused(frame) {
    if (frame.code === "ID_REUSED") return this.#reused(frame);
    const line = this.outbox.get(frame.id);
    if (!line) {
      if (frame.id || !this.#flying || !UNREADABLE.includes(frame.code)) {
        return this.emit("refused", { kind: "other", ...frame });
      }
      // Which frame was it? Most likely the line that is on its way.
      this.#suspect(frame.message);
      return this.#again(UNREADABLE_MS);
    }
    clearTimeout(this.#waitTimer);
    const { id, type } = line.frame;
    if (type !== "chat" && frame.code === "RATE_LIMITED") {
      this.outbox.remove(id);
      this.emit("dropped", { id });
      this.emit("refused", { kind: type, ...frame });
      this.#again();
    } else if (frame.retryable && frame.code !== "INTERNAL_ERROR") {
      this.emit("delayed", { line, retryAfterMs: frame.retryAfterMs ?? 1000 });
      this.#flying = id; // nothing overtakes it
      this.#wait((frame.retryAfterMs ?? 1000) + Math.random() * 250, () => this.#again());
    } else {
      this.#fail(line, frame.message, frame.code === "INTERNAL_ERROR");
      this.#again();
    }
  }

  // The id is another message's, whose echo comes or has come: this line was not said, and
  // needs an id of its own.
  /** @param {Wire.Refusal} frame */
  #reused({ id: said, message }) {
    const landed = this.#landed?.frame.id === said ? this.#landed : undefined;
    const line = this.outbox.get(said) ?? landed;
    if (!line) return;
    const { id } = line.frame;
    this.outbox.remove(id);
    this.emit("dropped", { id });
    const renamed = { ...line, frame: { ...line.frame, id: newId() } };
    this.emit("pending", { line: renamed });
    this.#fail(renamed, message, true);
    if (this.#flying !== id) return;
    clearTimeout(this.#waitTimer);
    this.#again();
  }

  /** @param {number} ms @param {() => void} work */
  #wait(ms, work) {
    clearTimeout(this.#waitTimer);
    this.#waitTimer = setTimeout(work, ms);
  }
}

export function socketBase() {
  return location.origin.replace(/^http/, "ws");
}

/** @param {Wire.Message[]} messages */
function earliest(messages) {
  const seq = messages[0]?.seq;
  return seq > 1 ? seq : undefined;
}
