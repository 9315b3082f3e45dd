// The server as a client sees it (wire.md), with every fault a test asks for: answers that
// are late, lost or refusals, sockets that break, lines it cannot read.

export const SESSION_MS = 20 * 60_000;

export class Server {
  origin = "http://chat.example";
  latencyMs = 20; // each way
  refusesSockets = false;
  sessionMs = SESSION_MS;
  sessionId = undefined; // the one that is good; undefined: none
  displayName = "Maya";
  people = []; // who is online, as presence tells it
  answers = {}; // what is asked for by path
  calls = []; // {method, path, sessionId, body, at}
  sockets = [];
  tooLate = 0; // frames for a socket that was closing: a browser complains of each
  rooms = new Map();
  /** Looked at for each call, by "METHOD /path": `{delayMs?, lost?, refuse?}`. */
  faults = new Map();
  /** Called for each frame on a room's socket; true: this test answers it. */
  onFrame = () => false;
  #time;
  #numbers = 0;

  constructor(time) {
    this.#time = time;
  }

  count(path, sinceMs = 0) {
    return this.calls.filter((each) => each.path === path && each.at >= sinceMs).length;
  }

  room(id) {
    if (!this.rooms.has(id)) this.rooms.set(id, []);
    return this.rooms.get(id);
  }

  /** The latest socket to a path. */
  socket(path) {
    return this.sockets.findLast((socket) => socket.path === path && socket.readyState === 1);
  }

  forget(tab) {
    for (const socket of this.sockets) if (socket.tab === tab) socket.readyState = 3;
  }

  async fetch(tab, path, { method, headers, body, signal }) {
    const call = { method, path: path.split("?")[0], at: this.#time.elapsed };
    call.sessionId = headers.Authorization?.slice("Bearer ".length);
    call.body = body && JSON.parse(body);
    this.calls.push(call);
    const fault = this.faults.get(`${method} ${call.path}`) ?? {};
    await this.#wait(this.latencyMs, signal);
    if (fault.lost === "request") return this.#wait(Infinity, signal);
    const [status, answer] = fault.refuse ?? this.#answer(call);
    // Stamped as it leaves: what it did is done already, however late it arrives.
    const meta = { timestamp: this.#time.now };
    await this.#wait(this.latencyMs + (fault.delayMs ?? 0), signal);
    if (fault.lost) return this.#wait(Infinity, signal);
    const envelope =
      status < 400
        ? { success: true, data: answer, meta }
        : { success: false, error: { code: answer[0], message: answer[1] }, meta };
    return { status, headers: { get: () => null }, json: async () => structuredClone(envelope) };
  }

  #wait(ms, { ms: patience }) {
    return new Promise((resolve, reject) => {
      if (ms <= patience) this.#time.set(resolve, ms);
      else this.#time.set(() => reject(new Error("TimeoutError")), patience);
    });
  }

  #answer({ method, path, sessionId, body }) {
    const expiresAt = this.#time.now + this.sessionMs;
    if (path === "/api/auth/login") {
      this.sessionId = `s${++this.#numbers}`;
      const user = { id: body.userId, displayName: this.displayName, avatarId: "cat" };
      return [200, { sessionId: this.sessionId, user, expiresAt }];
    }
    if (!this.sessionId || sessionId !== this.sessionId) {
      return [401, ["AUTH_EXPIRED", "The session is not valid (any more)."]];
    }
    if (path === "/api/auth/refresh") {
      this.sessionId = `s${++this.#numbers}`;
      return [200, { sessionId: this.sessionId, expiresAt }];
    }
    if (path === "/api/auth/ticket") return [200, { ticket: `t${++this.#numbers}`, expiresAt }];
    if (path === "/api/auth/logout") {
      this.sessionId = undefined;
      return [200, { success: true }];
    }
    if (path === "/api/presence") return [200, { displayName: this.displayName, ...body }];
    if (method === "GET" && path.startsWith("/api/rooms/")) return [200, { messages: [] }];
    return [200, this.answers[path] ?? []];
  }

  dial(url) {
    const socket = new ServerSocket(this, this.#time, new URL(url));
    this.sockets.push(socket);
    return socket;
  }

  heard(socket, frame) {
    if (frame.type === "ping") {
      return socket.say({ type: "pong", t: frame.t, timestamp: this.#time.now });
    }
    if (this.onFrame(socket, frame) || !socket.roomId) return undefined;
    if (frame.type === "chat") return this.accept(socket, frame);
    return undefined;
  }

  /** Into the room's log, and to everybody there; a repeat is answered by its echo. */
  accept(socket, { id, content }, senderId = "user_1") {
    const log = this.room(socket.roomId);
    const known = log.find((each) => each.id === id && each.senderId === senderId);
    if (known) return socket.say(known);
    const seq = log.length + 1;
    const at = { timestamp: this.#time.now, seq };
    const message = { type: "chat", id, roomId: socket.roomId, senderId, displayName: "x", content, ...at };
    log.push(message);
    for (const each of this.sockets) if (each.roomId === socket.roomId) each.say(message);
    return message;
  }

  contents(roomId) {
    return this.room(roomId).map(({ content }) => content);
  }
}

class ServerSocket {
  readyState = 0;
  answersPings = true;
  received = [];
  #server;
  #time;

  constructor(server, time, url) {
    this.#server = server;
    this.#time = time;
    this.path = url.pathname;
    this.roomId = url.pathname.split("/api/ws/room/")[1];
    this.since = url.searchParams.get("since");
    if (server.refusesSockets) return void time.set(() => this.end(1006), server.latencyMs);
    time.set(() => this.#open(), server.latencyMs);
  }

  #open() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.onopen?.({});
    if (!this.roomId) {
      const participants = this.#server.people;
      return this.say({ type: "presence_full_sync", participants, online: participants.length, scope: "all" });
    }
    const log = this.#server.room(this.roomId);
    const messages = log.filter(({ seq }) => seq > (this.since ?? 0));
    if (this.since !== null || log.length) {
      this.say({ type: "history", messages, roomId: this.roomId, lastSeq: log.length, gap: false });
    }
    return this.say({ type: "participants", roomId: this.roomId, participants: [] });
  }

  // The browser's side.

  send(text) {
    if (this.readyState > 1) this.#server.tooLate += 1;
    const frame = JSON.parse(text);
    this.#time.set(() => {
      if (this.readyState !== 1) return;
      this.received.push(frame);
      if (frame.type !== "ping" || this.answersPings) this.#server.heard(this, frame);
    }, this.#server.latencyMs);
  }

  close() {
    this.readyState = 3;
  }

  // The server's side.

  say(frame) {
    const data = typeof frame === "string" ? frame : JSON.stringify(frame);
    this.#time.set(() => this.readyState === 1 && this.onmessage?.({ data }), this.#server.latencyMs);
  }

  refuse(frame, code, more = {}) {
    this.say({ type: "error", code, message: `${code}.`, content: `${code}.`, retryable: false, ...more });
  }

  end(code) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code });
  }
}
