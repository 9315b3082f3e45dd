// The client side of the wire contract, without a user interface or a dependency.
//
//   const session = Session.stored() ?? (await Session.signIn("user_1", turnstileToken));
//   const messenger = new Messenger(session);
//   messenger.on("people", (people) => ...);      // who is online, as it changes
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
import { Outbox } from "./protocol/outbox.js";
import { Room, socketBase } from "./protocol/room.js";
import { LiveSocket, policyOf } from "./protocol/socket.js";
import { LONGEST } from "./protocol/words.js";

export { ApiError, call, Emitter, kept, keptHere, LONGEST, Outbox, policyOf, Room, Session };

const SESSION_EXPIRED = 4500;
const LOGGED_OUT = 4501;

/** The canonical id of two people's room: the wire's order, whoever asks. */
export function directRoom(one, other) {
  return `dm_${[one, other].sort().join("__")}`;
}

/** Who the other one is in a direct room; undefined elsewhere. */
export function otherIn(roomId, userId) {
  if (!roomId.startsWith("dm_")) return undefined;
  return roomId
    .slice(3)
    .split("__")
    .find((each) => each !== userId);
}

/**
 * Emits
 *  - `presence` {people: [{id, displayName, status}], whole}: `whole` replaces, else it
 *    changes those named;
 *  - `notification` {message}: somebody wrote in a direct room, open or not;
 *  - `connection` {state, retryAt?, why?}: the worst of all sockets;
 *  - `ended` {reason}: signed out, here or elsewhere; nothing comes after it.
 */
export class Messenger extends Emitter {
  clock = serverClock;
  rooms = new Map();
  status = "online";
  displayName = undefined;
  #socket;
  #states = new Map();
  #ended = false;
  #plain = true; // nothing was chosen that a room would have to be told
  #declared = undefined; // the status that the server knows of, until presence is cut off
  #declaring = undefined; // its being told, while it is

  constructor(session) {
    super();
    this.session = session;
    this.#socket = new LiveSocket(() => this.#url(), this.clock);
    this.#socket.on("open", () => this.#introduce());
    this.#socket.on("frame", (frame) => this.#frame(frame));
    this.#socket.on("state", (state) => this.#presenceState(state));
    this.#socket.on("final", (why) => this.#final(why));
    session.on("ended", ({ reason }) => this.#end(reason));
  }

  start() {
    this.#socket.start();
  }

  /** The room's connection; the same one until it is left. */
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

  leave(roomId) {
    this.rooms.get(roomId)?.close();
    this.rooms.delete(roomId);
    this.#states.delete(roomId);
    this.#tell();
  }

  /** Everybody and every room sees it, and again after each reconnect. */
  setPresence(status, displayName = this.displayName) {
    this.adoptPresence(status, displayName);
    this.#introduce();
  }

  /** The same, when presence itself told us: another tab has chosen. */
  adoptPresence(status, displayName) {
    this.status = status;
    this.displayName = displayName;
    this.#plain = false;
    for (const room of this.rooms.values()) this.introduce(room);
  }

  /** A room has opened: it learns who this is. */
  introduce(room) {
    if (!this.#plain) room.presence(this.status, this.displayName);
  }

  /** For one socket. Who is not simply online is so before the first socket opens. */
  async ticket() {
    try {
      await this.#declare();
      return await this.session.ticket();
    } catch (error) {
      error.final = error.ended;
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

  #declare() {
    const { status } = this;
    if (status === "online" || status === this.#declared) return undefined;
    this.#declaring ??= this.session
      .call("POST", "/api/presence", { status })
      .then(() => (this.#declared = status))
      .finally(() => (this.#declaring = undefined));
    return this.#declaring;
  }

  #introduce() {
    if (this.#plain) return;
    const { status, displayName } = this;
    this.#socket.send({ type: "presence_update", status, displayName });
  }

  #frame(frame) {
    switch (frame.type) {
      case "presence_full_sync":
        this.emit("presence", { people: frame.participants, whole: !frame.partial });
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

  #one({ userId: id, displayName }, status) {
    this.emit("presence", { people: [{ id, displayName, status }], whole: false });
  }

  #presenceState(state) {
    // The server forgets a choice some time after the last socket.
    if (state.state === "waiting" || state.state === "offline") this.#declared = undefined;
    this.#state("presence", state);
  }

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

  #final({ code }) {
    if (code === LOGGED_OUT) this.session.end("signed-out");
    else if (code === SESSION_EXPIRED || code === "AUTH_EXPIRED") this.session.end("expired");
  }

  #end(reason) {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.stop();
    for (const room of this.rooms.values()) room.close();
    this.emit("ended", { reason });
  }
}
