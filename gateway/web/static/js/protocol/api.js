// HTTP: the envelope of every answer, and the session that calls are made with.
//
// The session is shared by all tabs through localStorage. Refreshing it kills the old id
// at once, so one tab does it (a Web Lock) and the others read the new one; who was
// refused in between waits for it.

import { serverClock } from "./clock.js";
import { Emitter } from "./emitter.js";
import { kept } from "./kept.js";

const KEY = "cfm.session";
const LOCK = "cfm.refresh";
const PATIENCE_MS = 10_000;
const BEFORE_EXPIRY_MS = 180_000;
// Whatever the server and the clocks say, a page refreshes no more often than this.
const REFRESH_EVERY_MS = 5000;
const REFRESH_ABSURD_MS = 30_000;
// How long what another tab stored may take to be seen here, after its lock is free.
const NEWS_MS = 1000;

/** What the server refused (`code` as wire.md has it), or OFFLINE if nobody answered. */
export class ApiError extends Error {
  /** Whether no later attempt can succeed. */
  final = false;

  /** @param {string} code @param {string} message */
  constructor(code, message, status = 0, retryAfterS = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** What was caught; anything but a refusal has no code. @param {unknown} error */
  static of(error) {
    if (error instanceof ApiError) return error;
    return new ApiError("", error instanceof Error ? error.message : String(error));
  }

  /** Whether the session is over, so that trying again is of no use. */
  get ended() {
    return this.code === "AUTH_REQUIRED" || this.code === "AUTH_EXPIRED";
  }
}

/** One request; returns the envelope's `data` or throws `ApiError`. @type {Wire.Call} */
export async function call(method, path, { body, sessionId } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (sessionId) headers.Authorization = `Bearer ${sessionId}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const began = performance.now();
  let response, envelope;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    envelope = await response.json();
  } catch {
    throw new ApiError("OFFLINE", "The server could not be reached.");
  }
  if (!serverClock.known) serverClock.measured(began, envelope?.meta?.timestamp);
  if (envelope?.success) return envelope.data;
  // Somebody in between has answered.
  if (!envelope?.error) throw new ApiError("OFFLINE", "The server could not be reached.");
  const { code, message } = envelope.error;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw new ApiError(code, message, response.status, wait);
}

/** Who is signed in. @extends {Emitter<Client.SessionEvents>} */
export class Session extends Emitter {
  #timer = 0;
  #timed = false; // the timer was set by the server's clock, not by this machine's
  #renewedAt = -Infinity; // by performance.now()
  #over = false;

  /** The session this browser holds, or undefined. */
  static stored() {
    const found = read();
    return found && new Session(found);
  }

  /** @param {string} userId @param {string} token */
  static async signIn(userId, token) {
    const made = await call("POST", "/api/auth/login", { body: { userId, token } });
    const { sessionId, user, expiresAt } = made;
    kept.write(KEY, { sessionId, expiresAt, user });
    return new Session({ sessionId, expiresAt, user });
  }

  /** @param {Client.Kept} kept */
  constructor({ sessionId, expiresAt, user }) {
    super();
    this.sessionId = sessionId;
    this.user = user;
    this.expiresAt = expiresAt;
    this.#follow(expiresAt);
    addEventListener("storage", this.#onStorage);
  }

  /** @param {StorageEvent} event */
  #onStorage = ({ key }) => {
    if (key === KEY || key === null) this.#adopt();
  };

  /**
   * Like `call`, in the session's name; a refresh here or in another tab is followed.
   * @type {Wire.SessionCall}
   */
  async call(method, path, body) {
    for (let tries = 1; ; tries++) {
      const { sessionId } = this;
      try {
        const data = await call(method, path, { body, sessionId });
        if (!this.#timed && serverClock.known && !this.#over) this.#follow(this.expiresAt);
        return data;
      } catch (error) {
        if (!ApiError.of(error).ended) throw error;
        if (tries < 3 && (await this.#renewedSince(sessionId))) continue;
        this.end("expired");
        throw error;
      }
    }
  }

  /** A single-use ticket for one WebSocket URL: the session id is in no URL. */
  async ticket() {
    return (await this.call("POST", "/api/auth/ticket")).ticket;
  }

  /** A new id under which the session lives on; sockets stay open. */
  async refresh() {
    const before = this.sessionId;
    await alone(async () => {
      this.#adopt();
      if (this.#over || this.sessionId !== before) return;
      try {
        const made = await call("POST", "/api/auth/refresh", { sessionId: before });
        if (!this.#over) this.#renew(made, true);
      } catch (error) {
        if (!ApiError.of(error).ended) throw error;
        if (await this.#renewedSince(before, true)) return;
        this.end("expired");
        throw error;
      }
    });
  }

  /** A socket says that the session ends then; all sockets of all tabs do. @param {number} expiresAt */
  expiring(expiresAt) {
    const recently = performance.now() - this.#renewedAt < REFRESH_EVERY_MS;
    if (!recently && this.expiresAt <= expiresAt) this.#keep();
  }

  async signOut() {
    try {
      await this.call("POST", "/api/auth/logout");
    } finally {
      this.end("signed-out");
    }
  }

  /** @param {Client.EndReason} reason */
  end(reason) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    removeEventListener("storage", this.#onStorage);
    if (read()?.sessionId === this.sessionId) kept.remove(KEY);
    this.emit("ended", { reason });
  }

  // "The old one is dead at once" (wire.md): a refusal may mean that the answer with the
  // new id is still on its way, to this tab or to another.
  /** @param {string} used */
  async #renewedSince(used, holding = false) {
    const moved = () => {
      this.#adopt();
      return this.#over || this.sessionId !== used;
    };
    if (!moved() && !holding) await alone(() => {}).catch(() => {});
    if (!moved()) await this.#news(navigator.locks ? NEWS_MS : PATIENCE_MS);
    return moved() && !this.#over;
  }

  /** @param {number} ms */
  #news(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        for (const off of offs) off();
        resolve(undefined);
      };
      const timer = setTimeout(done, ms);
      const offs = [this.on("renewed", done), this.on("ended", done)];
    });
  }

  /** @param {Wire.Answers["POST /api/auth/refresh"]} made @param {boolean} here */
  #renew({ sessionId, expiresAt }, here) {
    this.sessionId = sessionId;
    this.#renewedAt = performance.now();
    if (here) kept.write(KEY, { sessionId, expiresAt, user: this.user });
    this.#follow(expiresAt);
    this.emit("renewed");
  }

  #adopt() {
    if (this.#over) return;
    const found = read();
    if (!found) this.end("signed-out");
    else if (found.user.id !== this.user.id) this.end("replaced");
    else if (found.sessionId !== this.sessionId) this.#renew(found, false);
  }

  /** @param {number} expiresAt */
  #follow(expiresAt) {
    this.expiresAt = expiresAt;
    this.#timed = serverClock.known;
    const left = expiresAt - serverClock.now();
    // A tab each at its own moment; half of a short life, three minutes of a long one.
    const early = Math.min(left / 2, BEFORE_EXPIRY_MS) * (0.9 + Math.random() / 5);
    this.#later(left > 0 ? Math.max(left - early, REFRESH_EVERY_MS) : REFRESH_ABSURD_MS);
  }

  /** @param {number} ms */
  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#keep(), ms);
  }

  async #keep() {
    try {
      await this.refresh();
    } catch (error) {
      if (this.#over) return;
      const wait = Math.max(REFRESH_EVERY_MS, ApiError.of(error).retryAfterS * 1000);
      this.#later(wait * (1 + Math.random()));
    }
  }
}

/** @returns {Client.Kept | undefined} */
function read() {
  const found = kept.read(KEY);
  return typeof found?.sessionId === "string" && found.user?.id ? found : undefined;
}

/** @type {Promise<void>} */
let last = Promise.resolve();

// Web Locks exist in secure contexts (https, loopback); elsewhere this page's own work is
// still one after the other, and a tab that comes second adopts what the first stored.
/** @param {() => void | Promise<void>} work */
function alone(work) {
  if (navigator.locks) return navigator.locks.request(LOCK, work);
  const turn = last.then(work);
  last = turn.catch(() => {});
  return turn;
}
