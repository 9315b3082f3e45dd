// The client side of the wire contract, without a user interface or a dependency.
//
//   const session = Session.stored() ?? (await Session.signIn("user_1", turnstileToken));
//   const messenger = new Messenger(session);
//   messenger.on("presence", ({ people }) => ...);  // who is online, as it changes
//   messenger.start();
//   const room = messenger.join("general");
//   room.on("messages", ({ messages }) => ...);   // each exactly once, in order
//   room.say("hello");                            // kept until its echo comes, sent once
//
// One socket for presence and one for each room that is open. All of them come back by
// themselves (socket.js), a room resumes after the last `seq` it saw and only then sends
// what it owes (room.js), and what was typed outlives the page (outbox.js). The session
// renews itself before it ends and is shared by all tabs (api.js).

import { ApiError, call, Session } from "./protocol/api.js";
import { serverClock } from "./protocol/clock.js";
import { Emitter } from "./protocol/emitter.js";
import { kept, keptHere } from "./protocol/kept.js";
import { LONGEST, Outbox } from "./protocol/outbox.js";
import { Room, socketBase } from "./protocol/room.js";
import { LiveSocket, policyOf } from "./protocol/socket.js";

export { ApiError, call, Emitter, kept, keptHere, LONGEST, Outbox, policyOf, Room, Session };

const SESSION_EXPIRED = 4500;
const LOGGED_OUT = 4501;
// The server forgets a choice 90 s after the last socket (wire.md): a little sooner here.
const FORGOTTEN_MS = 75_000;
const MOST_WATCHED = 500; // by one socket
const IDS_IN_A_FRAME = 200;
const WATCH_AFTER_MS = 500; // so that whoever scrolls says it once

/**
 * The canonical id of two people's room: the wire's order, whoever asks.
 * @param {string} one
 * @param {string} other
 */
export function directRoom(one, other) {
  return `dm_${[one, other].sort().join("__")}`;
}

/** Who the other one is in a direct room; undefined elsewhere. @param {string} roomId @param {string} userId */
export function otherIn(roomId, userId) {
  if (!roomId.startsWith("dm_")) return undefined;
  return roomId
    .slice(3)
    .split("__")
    .find((each) => each !== userId);
}

/** @extends {Emitter<Client.MessengerEvents>} */
export class Messenger extends Emitter {
  clock = serverClock;
  /** @type {Map<string, Room>} */
  rooms = new Map();
  /** @type {Wire.Status} */
  status = "online";
  #socket;
  /** @type {Map<string, Client.SocketState>} */
  #states = new Map();
  #ended = false;
  #owed = false; // the server has not confirmed the status that was chosen
  /** Its being told, while it is. @type {Promise<void> | undefined} */
  #declaring;
  /** Whom the page shows, and what of that this socket has said. @type {Set<string>} */
  #wanted = new Set();
  /** @type {Set<string>} */
  #watched = new Set();
  #watching = 0; // the timer until that is said
  /** Since when presence has no socket, after it had one. @type {number | undefined} */
  #cutAt;

  /** @param {Session} session */
  constructor(session) {
    super();
    this.session = session;
    this.#socket = new LiveSocket(() => this.#url(), this.clock);
    this.#socket.on("frame", (frame) => this.#frame(frame));
    this.#socket.on("open", () => this.#opened());
    this.#socket.on("state", (state) => this.#presenceState(state));
    this.#socket.on("final", (why) => this.#final(why));
    session.on("ended", ({ reason }) => this.#end(reason));
  }

  start() {
    this.#socket.start();
  }

  /** The room's connection; the same one until it is left. @param {string} roomId */
  join(roomId) {
    let room = this.rooms.get(roomId);
    if (room) return room;
    room = new Room(roomId, this);
    this.rooms.set(roomId, room);
    room.on("state", (state) => this.#state(roomId, state));
    room.on("final", (why) => this.#final(why));
    room.open();
    return room;
  }

  /** @param {string} roomId */
  leave(roomId) {
    this.rooms.get(roomId)?.close();
    this.rooms.delete(roomId);
    this.#states.delete(roomId);
    this.#tell();
  }

  /** Chosen here; it holds for all devices, and in every room. @param {Wire.Status} status */
  setPresence(status) {
    this.status = status;
    this.#owed = true;
    this.#socket.send({ type: "presence_update", status });
  }

  /** Chosen elsewhere: presence itself has told us. @param {Wire.Status} status */
  adoptPresence(status) {
    this.status = status;
    this.#owed = false;
  }

  /**
   * Whom the page shows, those first who matter most: of whom presence tells it however
   * many are online.
   * @param {Iterable<string>} userIds
   */
  watch(userIds) {
    this.#wanted = new Set([...new Set(userIds)].slice(0, MOST_WATCHED));
    this.#watching ||= setTimeout(() => this.#sayWatched(), WATCH_AFTER_MS);
  }

  /** Ask how many are online; the answer comes as presence. */
  count() {
    this.#socket.send({ type: "watch", userIds: [] });
  }

  /** Everybody sees it within a second; returns the name that they see. @param {string} displayName */
  async rename(displayName) {
    const { status } = this;
    return (await this.session.call("POST", "/api/presence", { status, displayName })).displayName;
  }

  /** For one socket, which opens with the status that was chosen and not with another. */
  async ticket() {
    try {
      await this.#declare();
      return await this.session.ticket();
    } catch (error) {
      if (error instanceof ApiError) error.final = error.ended;
      throw error;
    }
  }

  /** Do not wait for the next attempt. */
  retryNow() {
    this.#socket.retryNow();
    for (const room of this.rooms.values()) room.retryNow();
  }

  async signOut() {
    await this.session.signOut();
  }

  async #url() {
    return `${socketBase()}/api/ws/presence?ticket=${await this.ticket()}`;
  }

  #opened() {
    this.#watched = new Set();
    this.#sayWatched();
  }

  #sayWatched() {
    clearTimeout(this.#watching);
    this.#watching = 0;
    if (!this.#socket.isOpen) return; // the next one begins with it
    const over = [...this.#watched].filter((id) => !this.#wanted.has(id));
    const fresh = [...this.#wanted].filter((id) => !this.#watched.has(id));
    this.#inParts("unwatch", over);
    this.#inParts("watch", fresh);
    this.#watched = new Set(this.#wanted);
  }

  /** @param {"watch" | "unwatch"} type @param {string[]} ids */
  #inParts(type, ids) {
    for (let at = 0; at < ids.length; at += IDS_IN_A_FRAME) {
      this.#socket.send({ type, userIds: ids.slice(at, at + IDS_IN_A_FRAME) });
    }
  }

  #declare() {
    const { status } = this;
    const forgotten = performance.now() - (this.#cutAt ?? Infinity) > FORGOTTEN_MS && status !== "online";
    if (!this.#owed && !forgotten) return undefined;
    this.#declaring ??= this.session
      .call("POST", "/api/presence", { status })
      .then(() => {
        this.#owed = status !== this.status;
        this.#cutAt = undefined;
      })
      .finally(() => (this.#declaring = undefined));
    return this.#declaring;
  }

  /** @param {Wire.ServerFrame} frame */
  #frame(frame) {
    if ("seq" in frame) return; // an event is a room's
    switch (frame.type) {
      case "presence_full_sync":
        this.#synced(frame);
        break;
      case "presence_join":
        this.#one(frame, "online");
        break;
      case "presence_update":
        this.#one(frame, frame.status);
        break;
      case "message_notification":
        this.emit("notification", frame);
        break;
      case "session_expiring":
        this.session.expiring(frame.expiresAt);
        break;
    }
  }

  // In a crowd nobody is offline for not being named.
  /** @param {Wire.PresenceSync} sync */
  #synced({ participants, partial, online, scope }) {
    const crowded = scope === "watched";
    this.emit("crowd", { online: online ?? participants.length, crowded });
    this.#seen(participants, !partial && !crowded);
  }

  /** @param {Wire.PresenceJoin | Wire.PresenceUpdate} frame @param {Wire.Status} status */
  #one({ type, userId: id, ...words }, status) {
    this.#seen([{ id, ...words, status }], false);
  }

  // What is told of oneself confirms a choice; or it is older, and the choice stands.
  /** @param {Wire.Participant[]} people @param {boolean} whole */
  #seen(people, whole) {
    const me = people.find(({ id }) => id === this.session.user.id);
    if (me?.status === this.status) this.#owed = false;
    else if (me && this.#owed) me.status = this.status;
    this.emit("presence", { people, whole });
  }

  /** @param {Client.SocketState} state */
  #presenceState(state) {
    if (state.state === "open") this.#cutAt = undefined;
    else if (state.state !== "connecting") this.#cutAt ??= performance.now();
    this.#state("presence", state);
  }

  /** @param {string} name @param {Client.SocketState} state */
  #state(name, state) {
    this.#states.set(name, state);
    this.#tell();
  }

  #tell() {
    const order = ["open", "connecting", "waiting", "offline"];
    const worst = [...this.#states.values()]
      .filter(({ state }) => state !== "closed")
      .sort((a, b) => order.indexOf(b.state) - order.indexOf(a.state))[0];
    if (!this.#ended) this.emit("connection", worst ?? { state: "closed" });
  }

  /** @param {Client.Final} why */
  #final({ code }) {
    if (code === LOGGED_OUT) this.session.end("signed-out");
    else if (code === SESSION_EXPIRED || code === "AUTH_EXPIRED") this.session.end("expired");
  }

  /** @param {Client.EndReason} reason */
  #end(reason) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#watching);
    this.#socket.stop();
    for (const room of this.rooms.values()) room.close();
    this.emit("ended", { reason });
  }
}
