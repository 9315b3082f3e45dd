// The application: signed out or signed in, and what belongs to the whole of it.

import { announce, popover } from "./a11y.js";
import { Contacts } from "./contacts.js";
import { Conversation } from "./conversation.js";
import { el, iconButton, redraw, setText, within } from "./dom.js";
import { clearToasts, notificationsAreOn, setNotifications, tell, titleCount } from "./notify.js";
import { ApiError, keptHere, Messenger, otherIn, Outbox, Session } from "./protocol.js";
import { showSignIn } from "./signin.js";
import { play, setSound, soundIsOn } from "./sounds.js";
import { Store } from "./store.js";
import { Desktop } from "./windows.js";

const root = within(document, "#desktop");
const BY_ITSELF = 8; // conversations that open without being asked for
const RELOAD_MS = 60_000;
const RELOAD_AGAIN_MS = 5000;
const QUIET_MS = 4000;
const CONNECTION = { open: "Connected", connecting: "Connecting…", waiting: "Reconnecting…", offline: "Offline", closed: "" };

export class App {
  /** @type {Map<string, Conversation>} */
  #conversations = new Map();
  /** @type {number[]} */
  #timers = [];
  /** The people whose rows can be seen. @type {string[]} */
  #inView = [];
  #connected = false;
  #quietUntil = 0;
  #loadedAt = -Infinity; // by performance.now()

  words = el("span", { class: "words", role: "status" });
  retry = el("button", { type: "button", class: "link", hidden: true, onclick: () => this.messenger.retryNow() }, "Try now");
  connection = el("div", { class: "connection", "data-connection": "connecting" }, el("span", { class: "light", "aria-hidden": "true" }), this.words, this.retry);
  refusal = el("p", { class: "refusal", dir: "auto", hidden: true });

  /** @param {Session} session @param {Wire.Status} [status] */
  constructor(session, status) {
    this.session = session;
    this.store = new Store(session);
    this.messenger = new Messenger(session);
    this.desktop = new Desktop(root);
    if (status) this.store.setStatus(status);
    if (status || this.store.status !== "online") this.messenger.setPresence(this.store.status);
    this.contacts = new Contacts(this.store, {
      open: (roomId) => this.open(roomId),
      presence: (wanted) => {
        this.store.setStatus(wanted);
        this.messenger.setPresence(wanted);
      },
      rename: (displayName) => this.#rename(displayName),
      view: (userIds) => {
        this.#inView = userIds;
        this.#watch();
      },
      signOut: () => session.signOut().catch(() => {}),
    });
    const { clientWidth, clientHeight } = this.desktop.stage;
    this.list = this.desktop.open({
      id: "contacts",
      title: "Contacts",
      icon: "logo",
      content: this.contacts.element,
      at: { x: clientWidth - 324, y: 16, width: 300, height: Math.max(320, Math.min(clientHeight - 36, 660)) },
    });
    this.#tray();
    this.#listen();
    this.messenger.start();
    this.#load().then(() => this.#restore());
  }

  /** @param {string} roomId @param {Client.ConversationOptions} [options] */
  open(roomId, options) {
    const known = this.#conversations.get(roomId);
    if (known) {
      if (options?.active !== false) known.window.activate();
      return known;
    }
    const made = new Conversation(this, roomId, options);
    this.#conversations.set(roomId, made);
    this.#remember();
    this.#watch();
    return made;
  }

  /** @param {Conversation} conversation */
  closed(conversation) {
    conversation.close();
    this.#conversations.delete(conversation.roomId);
    this.#remember();
    this.#watch();
  }

  #listen() {
    const { messenger, store } = this;
    messenger.on("presence", (news) => store.presence(news));
    messenger.on("crowd", (crowd) => store.crowd(crowd));
    messenger.on("notification", ({ message }) => this.#notification(message));
    messenger.on("connection", (state) => this.#connection(state));
    messenger.on("ended", ({ reason }) => this.#end(reason));
    store.on("me", () => {
      if (store.status !== messenger.status) messenger.adoptPresence(store.status);
      this.#refresh();
    });
    store.on("people", () => this.#refresh());
    store.on("rooms", () => this.#refresh());
    store.on("unread", ({ roomId, count }) => {
      titleCount(store.unreadTotal);
      this.#conversations.get(roomId)?.window.flag(count);
    });
    store.on("came", ({ person }) => this.#came(person));
    document.addEventListener("visibilitychange", this.#shown);
    addEventListener("focus", this.#looked);
    this.#timers.push(setInterval(() => !document.hidden && this.#load(), RELOAD_MS));
  }

  /** Of whom presence is to tell, however many are online: whom one talks to, then who
   * is in view. */
  #watch() {
    const me = this.session.user.id;
    const others = [...this.#conversations.keys()].map((roomId) => otherIn(roomId, me) ?? "");
    const shown = new Set([...others, ...this.#inView].filter(Boolean));
    this.store.watched = shown;
    this.messenger.watch(shown);
  }

  #refresh() {
    for (const each of this.#conversations.values()) each.refresh();
  }

  /** @param {string} wanted */
  async #rename(wanted) {
    const { me } = this.store;
    try {
      const displayName = await this.messenger.rename(wanted);
      this.store.setMe({ displayName });
      announce(`Your name is now ${displayName}`);
    } catch (error) {
      const title = "Your name has not changed";
      const { message: text } = ApiError.of(error);
      tell({ title, text, icon: `a-${me.avatarId}`, tag: "name", open: () => {} });
      announce(`${title}. ${text}`, true);
    }
  }

  #looked = () => {
    for (const each of this.#conversations.values()) each.looked();
  };

  // A hidden page loads nothing: what was read elsewhere meanwhile is learned now.
  #shown = () => {
    this.#looked();
    if (!document.hidden && performance.now() - this.#loadedAt > RELOAD_AGAIN_MS) this.#load();
  };

  async #load() {
    this.#loadedAt = performance.now();
    if (this.store.crowded) this.messenger.count();
    try {
      await this.store.load((roomId) => this.#conversations.has(roomId));
    } catch {
      // Presence brings us back here when there is a connection.
    }
  }

  /** The conversations this tab had, and those that owe somebody a line. */
  #restore() {
    if (this.store.closed) return; // the session has ended meanwhile
    const ids = new Set(Outbox.rooms(this.session.user.id));
    const open = keptHere.read(this.#openKey);
    for (const id of Array.isArray(open) ? open : []) ids.add(id);
    for (const id of ids) this.open(id, { active: false });
  }

  #remember() {
    keptHere.write(this.#openKey, [...this.#conversations.keys()]);
  }

  get #openKey() {
    return `cfm.open.${this.session.user.id}`;
  }

  /** @param {Wire.Message} message */
  #notification(message) {
    const { roomId, senderId } = message;
    if (senderId === this.session.user.id || this.#conversations.has(roomId)) return;
    if (this.#conversations.size < BY_ITSELF) this.open(roomId, { active: false });
    else {
      this.store.setUnread(roomId, this.store.unread(roomId) + 1);
      const sender = this.store.person(otherIn(roomId, this.session.user.id));
      const open = () => this.open(roomId);
      tell({ title: message.displayName, text: message.content, icon: `a-${sender?.avatarId ?? "person"}`, tag: roomId, sound: "message", open });
      announce(`${message.displayName} says: ${message.content}`);
    }
  }

  /** @param {Wire.User} person */
  #came(person) {
    // After a restart of the server everybody comes: that is no news.
    if (performance.now() < this.#quietUntil) return;
    const open = () => this.open(this.store.directRoom(person.id));
    tell({ title: person.displayName, text: "is now online", icon: `a-${person.avatarId}`, tag: person.id, sound: "online", open });
    announce(`${person.displayName} is now online`);
  }

  // The tray: connection, sound, notifications, keyboard.

  #tray() {
    /**
     * @param {string[]} icons
     * @param {string} label
     * @param {() => boolean} isOn
     * @param {(wanted: boolean) => boolean | Promise<boolean>} set
     */
    const toggle = (icons, label, isOn, set) => {
      const button = iconButton(icons[0], label, async () => show(await set(!isOn())));
      /** @param {boolean} on */
      const show = (on) => {
        redraw(within(button, "svg"), icons[on ? 0 : 1]);
        button.setAttribute("aria-pressed", String(on));
      };
      show(isOn());
      return button;
    };
    const sound = toggle(["i-sound", "i-mute"], "Sound", soundIsOn, (on) => {
      setSound(on);
      return on;
    });
    const bell = toggle(["i-bell", "i-belloff"], "Notifications", notificationsAreOn, setNotifications);
    const keys = iconButton("i-keys", "Keyboard", () => {});
    const help = el("div", { class: "menu help", role: "group", "aria-label": "Keyboard" }, SHORTCUTS(), el("button", { type: "button", onclick: () => closeHelp() }, "Close"));
    const closeHelp = popover(keys, help);
    root.append(this.refusal);
    const time = el("time", { class: "clock" });
    const tick = () => setText(time, new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    tick();
    this.#timers.push(setInterval(tick, 10_000));
    this.desktop.tray.replaceChildren(this.connection, sound, bell, el("div", { class: "menubox" }, keys, help), time);
  }

  /** @param {Client.SocketState} worst */
  #connection({ state, retryAt, why }) {
    if (state === "open" && this.connection.dataset.connection !== "open") {
      if (this.#connected) this.#quietUntil = performance.now() + QUIET_MS;
      else play("signIn");
      this.#connected = true;
      this.#load();
    }
    this.connection.dataset.connection = state;
    this.retry.hidden = state !== "waiting" && state !== "offline";
    setText(this.words, CONNECTION[state]);
    this.#refusal(why);
    if (retryAt) this.retry.title = `Next attempt in ${Math.ceil((retryAt - performance.now()) / 1000)} s`;
  }

  /** @param {string} [why] the server will not have us, for as long as it will not */
  #refusal(why) {
    if (why && this.refusal.textContent !== why) announce(why, true);
    setText(this.refusal, why ?? "");
    this.refusal.hidden = !why;
  }

  /** @param {Client.EndReason} reason */
  #end(reason) {
    for (const timer of this.#timers) clearInterval(timer);
    document.removeEventListener("visibilitychange", this.#shown);
    removeEventListener("focus", this.#looked);
    this.store.close();
    this.desktop.close();
    this.#conversations.clear();
    if (reason === "signed-out") keptHere.remove(this.#openKey);
    titleCount(0);
    clearToasts();
    signedOut(reason);
  }
}

const SHORTCUTS = () =>
  el(
    "dl",
    {},
    [
      ["Enter", "send; Shift+Enter: a new line"],
      ["F6", "next window; Shift+F6: the one before"],
      ["Arrows", "move in lists, menus and the bar"],
      ["Ctrl+Alt+arrows", "move a window; with Shift: resize it"],
      ["Esc", "close a menu, then the conversation"],
    ].map(([keys, what]) => el("div", {}, el("dt", {}, keys), el("dd", {}, what))),
  );

/** @param {Session} session @param {Wire.Status} [status] */
function signedIn(session, status) {
  document.body.classList.add("inside");
  new App(session, status);
}

/** @param {Client.EndReason} [reason] */
function signedOut(reason) {
  document.body.classList.remove("inside");
  showSignIn(root, reason, signedIn);
}

const stored = Session.stored();
if (stored) signedIn(stored);
else signedOut();
performance.mark("interactive");
