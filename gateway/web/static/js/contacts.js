// The contact list: oneself, the people, the bots, the rooms.

import { announce, composing, roving } from "./a11y.js";
import { drawing, el, iconButton, name, redraw, setText } from "./dom.js";
import { STATUS_NAMES } from "./store.js";

const MAX_NAME = 50;
const STATUS_WORDS = { ...STATUS_NAMES, offline: "Offline" };

export class Contacts {
  #store;
  #actions;
  /** @type {Map<string, ReturnType<typeof makeRow>>} */
  #rows = new Map();
  #groups;
  #queued = false;
  #pressed = false;
  /** Whose rows can be seen. @type {Set<string>} */
  #inView = new Set();
  #looking = new IntersectionObserver((rows) => this.#looked(rows), { rootMargin: "200px 0px" });
  search = el("input", {
    type: "search",
    placeholder: "Find a contact",
    "aria-label": "Find a contact",
    autocomplete: "off",
    spellcheck: "false",
    "data-focus": true,
    oninput: () => this.#found(),
  });
  statusIcon = drawing("s-online", "status");
  statusBox = el(
    "select",
    { class: "mystatus", "aria-label": "My status", onchange: () => this.#choose() },
    Object.entries(STATUS_NAMES).map(([value, label]) => el("option", { value }, label)),
  );
  nameButton = el("button", {
    type: "button",
    class: "myname",
    title: "Change my display name",
    onclick: () => this.#editName(true),
  });
  nameBox = el("input", {
    class: "myname",
    "aria-label": "My display name",
    maxlength: String(MAX_NAME),
    dir: "auto",
    hidden: true,
    onblur: () => this.#editName(false),
    onkeydown: (event) => {
      if (composing(event)) return;
      if (event.key === "Enter") this.#rename();
      if (event.key === "Enter" || event.key === "Escape") {
        event.stopPropagation();
        event.preventDefault(); // else the button, which gets the focus, is pressed by it
        this.#editName(false, true);
      }
    },
  });
  picture = drawing("", "avatar big");
  message = el("p", { class: "psm", dir: "auto" });

  /** @param {Client.Store} store @param {Client.ContactActions} actions */
  constructor(store, actions) {
    this.#store = store;
    this.#actions = actions;
    this.#groups = [
      this.#group("rooms", "Rooms"),
      this.#group("online", "Online"),
      this.#group("bots", "Bots"),
      this.#group("offline", "Offline"),
    ];
    this.element = el(
      "div",
      { class: "contacts" },
      this.#myself(),
      el("div", { class: "find" }, this.search),
      el("div", { class: "groups" }, this.#groups.map(({ element }) => element)),
    );
    // A row that moves between press and release is never clicked: the list holds still.
    this.element.addEventListener("pointerdown", () => this.#hold());
    const soon = () => this.#soon();
    store.on("people", soon);
    store.on("rooms", soon);
    store.on("unread", soon);
    store.on("me", () => this.#showMe());
    this.#showMe();
    this.#draw();
  }

  // Oneself.

  #myself() {
    return el(
      "div",
      { class: "me" },
      this.picture,
      el(
        "div",
        { class: "self" },
        this.nameButton,
        this.nameBox,
        el("div", { class: "choose" }, this.statusIcon, this.statusBox),
        this.message,
      ),
      iconButton("i-exit", "Sign out", () => this.#actions.signOut(), "icon signout"),
    );
  }

  #showMe() {
    const { me, status } = this.#store;
    this.statusBox.value = status;
    redraw(this.statusIcon, `s-${status}`);
    redraw(this.picture, `a-${me.avatarId}`);
    setText(this.message, me.personalMessage ?? "");
    this.message.hidden = !me.personalMessage;
    this.nameButton.replaceChildren(name(me.displayName));
    this.nameButton.setAttribute("aria-label", `${me.displayName}, change my display name`);
  }

  #choose() {
    const status = /** @type {Wire.Status} */ (this.statusBox.value);
    this.#actions.presence(status);
    announce(`You are now ${STATUS_NAMES[status]}`);
  }

  /** @param {boolean} editing */
  #editName(editing, refocus = false) {
    this.nameBox.hidden = !editing;
    this.nameButton.hidden = editing;
    if (editing) {
      this.nameBox.value = this.#store.me.displayName;
      this.nameBox.select();
      this.nameBox.focus();
    } else if (refocus) this.nameButton.focus();
  }

  #rename() {
    // What the server would refuse: control and direction-override characters.
    const wanted = this.nameBox.value.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, "").trim();
    if (wanted && wanted !== this.#store.me.displayName) this.#actions.rename(wanted);
  }

  // The list.

  /** @param {string} id @param {string} title */
  #group(id, title) {
    const count = el("span", { class: "count" });
    const list = el("ul", {});
    const element = el(
      "details",
      { class: "group", "data-group": id, open: true },
      el("summary", {}, title, " ", count),
      list,
    );
    const settle = roving(list, () => [...list.querySelectorAll("button")]);
    return { id, element, count, list, settle };
  }

  #soon() {
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      if (this.#pressed) return; // drawn when it is released
      this.#queued = false;
      this.#draw();
    });
  }

  #hold() {
    this.#pressed = true;
    const over = new AbortController();
    const released = () => {
      over.abort();
      this.#pressed = false;
      if (!this.#queued) return;
      this.#queued = false;
      setTimeout(() => this.#soon()); // behind the click
    };
    for (const event of ["pointerup", "pointercancel"]) addEventListener(event, released, over);
  }

  /** @param {IntersectionObserverEntry[]} rows */
  #looked(rows) {
    for (const { target, isIntersecting } of rows) {
      const id = target.getAttribute("data-contact") ?? "";
      if (isIntersecting) this.#inView.add(id);
      else this.#inView.delete(id);
    }
    this.#actions.view([...this.#inView]);
  }

  #found() {
    this.#draw();
    const shown = this.element.querySelectorAll(".groups button").length;
    announce(`${shown} found`);
  }

  #draw() {
    const wanted = this.search.value;
    const people = this.#store.contacts(wanted);
    const letters = wanted.trim().toLowerCase();
    const rooms = this.#store.publicRooms.filter((room) => room.name.toLowerCase().includes(letters));
    /** @param {Wire.User} person */
    const groupOf = ({ isAiBot, status }) => (isAiBot ? "bots" : status === "offline" ? "offline" : "online");
    const focused = document.activeElement;
    for (const { id, element, count, list, settle } of this.#groups) {
      const rows =
        id === "rooms"
          ? rooms.map((room) => this.#row(`room:${room.id}`, room.id, room))
          : people.filter((each) => groupOf(each) === id).map((each) => this.#row(each.id, this.#store.directRoom(each.id), each));
      const { crowded, online } = this.#store;
      const of = crowded && id === "online" ? ` of ${online.toLocaleString()}` : "";
      setText(count, `(${rows.length}${of})`);
      element.hidden = !rows.length;
      // Touched only where the order changed: a moved element loses the focus.
      rows.forEach((row, at) => {
        if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null);
      });
      while (list.children.length > rows.length) list.lastElementChild?.remove();
      settle();
    }
    if (focused !== document.activeElement && focused instanceof HTMLElement && this.element.contains(focused)) {
      focused.focus();
    }
  }

  /** @param {string} key @param {string} roomId @param {Client.Contact} contact */
  #row(key, roomId, { displayName, name: roomName = "", status, personalMessage, avatarId }) {
    let parts = this.#rows.get(key);
    if (!parts) {
      parts = makeRow(key, roomId, () => this.#actions.open(roomId), avatarId);
      this.#rows.set(key, parts);
      if (avatarId) this.#looking.observe(parts.row);
    }
    const { row } = parts;
    const unread = this.#store.unread(roomId);
    setText(parts.name, displayName ?? roomName);
    setText(parts.psm, personalMessage ? ` – ${personalMessage}` : "");
    if (avatarId) redraw(parts.picture, `a-${avatarId}`);
    if (status) {
      redraw(parts.status, `s-${status}`);
      row.dataset.status = status;
    }
    parts.badge.hidden = !unread;
    setText(parts.badge, unread ? String(unread) : "");
    setText(parts.said, status ? `, ${STATUS_WORDS[status]}` : "");
    setText(parts.news, unread ? " unread" : "");
    return row;
  }
}

/** @param {string} key @param {string} roomId @param {() => void} onclick @param {string} [avatarId] */
function makeRow(key, roomId, onclick, avatarId) {
  const icon = avatarId ?? (roomId === "music" ? "music" : "room");
  const parts = {
    picture: drawing(`a-${icon}`, "avatar"),
    status: drawing("s-online", "status"),
    name: name("", "name"),
    psm: el("bdi", { class: "psm" }),
    badge: el("span", { class: "badge" }),
    said: el("span", { class: "unseen" }),
    news: el("span", { class: "unseen" }),
  };
  const button = el(
    "button",
    { type: "button", class: "contact", tabindex: "-1", "data-room": roomId, onclick },
    el("span", { class: "face" }, parts.picture, avatarId ? parts.status : false),
    el("span", { class: "line" }, parts.name, parts.said, parts.psm),
    parts.badge,
    parts.news,
  );
  return { ...parts, row: el("li", { "data-contact": key }, button) };
}
