// What this page knows: people, rooms, unread counts, read marks, choices.
//
// Read marks are kept in the browser, so the tabs of one person agree on what was read.

import { directRoom, Emitter, kept, otherIn } from "./protocol.js";

const RANK = { online: 0, busy: 1, away: 2, offline: 3 };

export const STATUS_NAMES = {
  online: "Online",
  busy: "Busy",
  away: "Away",
  offline: "Appear offline",
};

const WORDS = /** @type {const} */ (["displayName", "personalMessage", "avatarId"]);

/** @extends {Emitter<Client.StoreEvents>} */
export class Store extends Emitter {
  /** @type {Map<string, Wire.User>} */
  people = new Map();
  /** @type {Wire.RoomInfo[]} */
  publicRooms = [];
  /** By room. @type {Map<string, number>} */
  #unread = new Map();
  #session;
  #synced = false;
  closed = false;
  online = 0; // how many are, as presence said last
  crowded = false; // so many that presence tells of some alone
  /** Of whom it does then. @type {Set<string>} */
  watched = new Set();

  /** @param {Client.Session} session */
  constructor(session) {
    super();
    this.#session = session;
    this.me = { ...session.user }; // as others see it, as far as that is known
    const chosen = kept.read(this.#key("me"));
    /** @type {Wire.Status} */
    this.status = Object.hasOwn(STATUS_NAMES, chosen?.status) ? chosen.status : "online";
    addEventListener("storage", this.#onStorage);
  }

  close() {
    this.closed = true;
    removeEventListener("storage", this.#onStorage);
  }

  /**
   * Everybody and every room, with what is unread where nobody looks.
   * @param {(roomId: string) => boolean} isOpen
   */
  async load(isOpen) {
    const [people, rooms] = await Promise.all([
      this.#session.call("GET", "/api/users"),
      this.#session.call("GET", "/api/rooms"),
    ]);
    if (this.closed) return;
    const before = this.people;
    this.people = new Map(people.map((person) => [person.id, person]));
    for (const person of people) {
      const known = before.get(person.id);
      const told = this.#synced && (!this.crowded || this.watched.has(person.id));
      if (known && told && !person.isAiBot) {
        person.status = known.status;
      }
    }
    const me = this.people.get(this.me.id);
    if (me) this.#follow(me, false);
    this.publicRooms = rooms.filter(({ type }) => type === "group");
    for (const { id, unreadCount } of rooms) {
      if (!id.startsWith("dm_")) continue;
      if (!isOpen(id)) this.setUnread(id, unreadCount);
    }
    this.emit("people");
    this.emit("rooms");
  }

  /** @param {Client.Presence} news */
  presence({ people, whole }) {
    const seen = new Map(people.map((person) => [person.id, person]));
    for (const person of this.people.values()) {
      const now = seen.get(person.id);
      if (!now && (!whole || person.isAiBot)) continue;
      const status = now?.status ?? "offline";
      if (now) learn(person, now);
      const came = this.#synced && person.status === "offline" && status !== "offline";
      person.status = status;
      if (person.id === this.me.id) this.#follow(person, Boolean(now));
      else if (came) this.emit("came", { person });
    }
    this.#synced ||= whole;
    this.emit("people");
  }

  /** @param {Client.Crowd} crowd */
  crowd({ online, crowded }) {
    const changed = online !== this.online || crowded !== this.crowded;
    this.online = online;
    this.crowded = crowded;
    this.#synced ||= crowded; // nothing whole comes before what is told of some
    if (changed) this.emit("people");
  }

  /** Chosen here, or followed. @param {Wire.Status} status */
  setStatus(status) {
    this.status = status;
    kept.write(this.#key("me"), { status });
    this.emit("me");
  }

  /** How others see oneself. @param {Wire.Words} words */
  setMe(words) {
    learn(this.me, words);
    this.emit("me");
  }

  /** @param {string} [id] */
  person(id = "") {
    return this.people.get(id) ?? (id === this.me.id ? this.me : undefined);
  }

  /** People but oneself: those who are there first, then by name. */
  contacts(wanted = "") {
    const letters = wanted.trim().toLowerCase();
    return [...this.people.values()]
      .filter(({ id }) => id !== this.me.id)
      .filter(({ displayName, personalMessage = "" }) =>
        `${displayName} ${personalMessage}`.toLowerCase().includes(letters),
      )
      .sort(
        (a, b) =>
          RANK[a.status] - RANK[b.status] || a.displayName.localeCompare(b.displayName),
      );
  }

  /** @param {string} userId */
  directRoom(userId) {
    return directRoom(this.me.id, userId);
  }

  /** What a room is called and who is on the other side of a direct one. @param {string} roomId */
  roomOf(roomId) {
    const other = this.person(otherIn(roomId, this.me.id));
    const room = this.publicRooms.find(({ id }) => id === roomId);
    return { other, title: other?.displayName ?? room?.name ?? roomId };
  }

  /** @param {string} roomId */
  unread(roomId) {
    return this.#unread.get(roomId) ?? 0;
  }

  get unreadTotal() {
    return [...this.#unread.values()].reduce((sum, count) => sum + count, 0);
  }

  /** How many messages of others nobody here has looked at. @param {string} roomId @param {number} count */
  setUnread(roomId, count) {
    if (this.unread(roomId) === count) return;
    this.#unread.set(roomId, count);
    this.emit("unread", { roomId, count });
  }

  /** @param {string} roomId */
  readMark(roomId) {
    return Number(kept.read(this.#key(`read.${roomId}`))) || 0;
  }

  /** All up to `seq` was looked at, here or by another tab. @param {string} roomId @param {number} seq */
  markRead(roomId, seq) {
    if (seq > this.readMark(roomId)) kept.write(this.#key(`read.${roomId}`), seq);
    this.setUnread(roomId, 0);
  }

  /** What was typed and not sent. @param {string} roomId @returns {string} */
  draft(roomId) {
    return kept.read(this.#key(`draft.${roomId}`)) ?? "";
  }

  /** @param {string} roomId @param {string} text */
  keepDraft(roomId, text) {
    kept.write(this.#key(`draft.${roomId}`), text || undefined);
  }

  // Chosen or changed in another tab or on another device.
  /** @param {Wire.User} person @param {boolean} told */
  #follow(person, told) {
    if (WORDS.some((word) => person[word] !== this.me[word])) this.setMe(person);
    if (told && person.status !== this.status) this.setStatus(person.status);
  }

  /** @param {string} name */
  #key(name) {
    return `cfm.${name}.${this.#session.user.id}`;
  }

  /** @param {StorageEvent} event */
  #onStorage = ({ key }) => {
    const start = "cfm.read.";
    if (!key?.startsWith(start)) return;
    const roomId = key.slice(start.length, -this.#session.user.id.length - 1);
    if (this.#key(`read.${roomId}`) === key) this.setUnread(roomId, 0);
  };
}

// What a frame says of a person. Where there is no picture the server tells of none, nor
// of messages; else a message that is not there is one that was taken away.
/** @param {Wire.User} person @param {Wire.Words} words */
function learn(person, { displayName, personalMessage, avatarId }) {
  if (displayName) person.displayName = displayName;
  if (!avatarId) return;
  person.avatarId = avatarId;
  person.personalMessage = personalMessage;
}
