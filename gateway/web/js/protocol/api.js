// HTTP: the envelope of every answer, and the session that calls are made with.
//
// The session is shared by all tabs through localStorage. Refreshing it kills the old id
// at once, so one tab does it (a Web Lock) and the others read the new one.

import { Emitter } from "./emitter.js";

const KEY = "cfm.session";
const PATIENCE_MS = 10_000;
const BEFORE_EXPIRY_MS = 180_000;

/** What the server refused (`code` as wire.md has it), or OFFLINE if nobody answered. */
export class ApiError extends Error {
  constructor(code, message, status = 0, retryAfterS = 0) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the session is over, so that trying again is of no use. */
  get ended() {
    return this.code === "AUTH_REQUIRED" || this.code === "AUTH_EXPIRED";
  }
}

/** One request; returns the envelope's `data` or throws `ApiError`. */
export async function call(method, path, { body, sessionId } = {}) {
  const headers = {};
  if (sessionId) headers.Authorization = `Bearer ${sessionId}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
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
  if (envelope.success) return envelope.data;
  const { code, message } = envelope.error;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw new ApiError(code, message, response.status, wait);
}

/**
 * Who is signed in. Emits `ended` {reason} once, when nothing can be done in its name any
 * more: "signed-out" (here or in another tab), "expired", or "replaced" by someone else.
 */
export class Session extends Emitter {
  #timer = 0;
  #over = false;

  /** The session this browser holds, or undefined. */
  static stored() {
    const kept = read();
    return kept && new Session(kept);
  }

  static async signIn(userId, token) {
    const made = await call("POST", "/api/auth/login", { body: { userId, token } });
    const { sessionId, user, expiresAt } = made;
    const kept = { sessionId, expiresAt, user };
    localStorage.setItem(KEY, JSON.stringify(kept));
    return new Session(kept);
  }

  constructor({ sessionId, expiresAt, user }) {
    super();
    this.sessionId = sessionId;
    this.user = user;
    this.#follow(expiresAt);
    this.onStorage = (event) => {
      if (event.key === KEY || event.key === null) this.#adopt();
    };
    addEventListener("storage", this.onStorage);
  }

  /** Like `call`, in the session's name; a refresh in another tab is followed. */
  async call(method, path, body) {
    const { sessionId } = this;
    try {
      return await call(method, path, { body, sessionId });
    } catch (error) {
      if (!error.ended) throw error;
      this.#adopt();
      if (this.#over || this.sessionId === sessionId) {
        this.end("expired");
        throw error;
      }
      return call(method, path, { body, sessionId: this.sessionId });
    }
  }

  /** A single-use ticket for one WebSocket URL: the session id is in no URL. */
  async ticket() {
    return (await this.call("POST", "/api/auth/ticket")).ticket;
  }

  /** A new id under which the session lives on; sockets stay open. */
  async refresh() {
    const before = this.sessionId;
    await alone("cfm.refresh", async () => {
      this.#adopt();
      if (this.#over || this.sessionId !== before) return;
      const { sessionId, expiresAt } = await this.call("POST", "/api/auth/refresh");
      this.sessionId = sessionId;
      const kept = { sessionId, expiresAt, user: this.user };
      localStorage.setItem(KEY, JSON.stringify(kept));
      this.#follow(expiresAt);
    });
  }

  async signOut() {
    try {
      await this.call("POST", "/api/auth/logout");
    } finally {
      this.end("signed-out");
    }
  }

  end(reason) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    removeEventListener("storage", this.onStorage);
    if (read()?.sessionId === this.sessionId) localStorage.removeItem(KEY);
    this.emit("ended", { reason });
  }

  #adopt() {
    const kept = read();
    if (!kept) this.end("signed-out");
    else if (kept.user.id !== this.user.id) this.end("replaced");
    else if (kept.sessionId !== this.sessionId) {
      this.sessionId = kept.sessionId;
      this.#follow(kept.expiresAt);
    }
  }

  #follow(expiresAt) {
    clearTimeout(this.#timer);
    const left = expiresAt - Date.now();
    // A tab each at its own moment; half of a short life, three minutes of a long one.
    const early = Math.min(left / 2, BEFORE_EXPIRY_MS) * (0.9 + Math.random() / 5);
    this.#timer = setTimeout(() => this.#keep(), Math.max(left - early, 1000));
  }

  async #keep() {
    try {
      await this.refresh();
    } catch (error) {
      if (!error.ended) this.#timer = setTimeout(() => this.#keep(), 5000);
    }
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? undefined;
  } catch {
    return undefined;
  }
}

// Web Locks exist in secure contexts (https, loopback); elsewhere tabs may meet, and the
// one that comes second adopts what the first stored.
function alone(name, work) {
  return navigator.locks ? navigator.locks.request(name, work) : work();
}
