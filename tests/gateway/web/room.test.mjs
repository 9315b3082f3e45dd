// A room: every line said once and in order, none lost, none in the way of the others.

import assert from "node:assert/strict";
import { test } from "node:test";

import { plain, World } from "./world.mjs";

const ROOM = "/api/ws/room/general";

async function talking(options) {
  const world = new World();
  const tab = await world.signedIn(options);
  return { world, ...(await enter(world, tab)) };
}

async function enter(world, tab) {
  const messenger = new tab.protocol.Messenger(tab.session);
  messenger.start();
  const { room, told } = tab.join(messenger, "general");
  await world.time.until(() => world.server.socket(ROOM)?.received.length > 0);
  return { tab, messenger, room, told };
}

const failed = (room) => room.outbox.lines.filter((line) => line.failed);

test("a listener that throws is reported, and the room goes on", async () => {
  const world = new World();
  const tab = await world.signedIn();
  world.server.room("general").push({ type: "chat", id: "a", seq: 1, senderId: "user_2", content: "hi" });
  const messenger = new tab.protocol.Messenger(tab.session);
  messenger.on("connection", () => {
    throw new Error("of the tray");
  });
  const room = messenger.join("general");
  const heard = [];
  for (const type of ["messages", "participants", "state", "pending", "settled"]) {
    room.on(type, () => {
      throw new TypeError(`Illegal constructor: ${type}`);
    });
    room.on(type, () => heard.push(type));
  }
  room.say("still here");
  await world.time.pass(5000);
  assert.deepEqual(world.server.contents("general"), ["hi", "still here"]);
  assert.equal(room.outbox.lines.length, 0);
  for (const type of ["messages", "participants", "state", "pending"]) assert.ok(heard.includes(type));
  assert.ok(tab.faults.length >= 5);
});

test("a frame that is no JSON is reported, and the next one is read", async () => {
  const { world, tab, room } = await talking();
  world.server.socket(ROOM).say("{");
  room.say("hello");
  await world.time.pass(1000);
  assert.deepEqual(world.server.contents("general"), ["hello"]);
  assert.equal(tab.faults.length, 1);
});

test("nothing is sent over a socket that closes, and no nudge is kept for later", async () => {
  const { world, messenger, room } = await talking();
  for (const socket of world.server.sockets) socket.readyState = 2; // we are not told yet
  messenger.setPresence("busy");
  room.typing(true);
  room.say("hello");
  assert.equal(room.nudge(), false);
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(30_000);
  assert.deepEqual(world.server.contents("general"), ["hello"]);
  const received = world.server.sockets.flatMap((socket) => socket.received);
  assert.ok(!received.some(({ type }) => type === "nudge"));
  assert.equal(world.server.tooLate, 0);
});

test("a browser that thinks it is offline is not believed", async () => {
  const world = new World();
  const tab = await world.signedIn();
  tab.navigator.onLine = false;
  const { room } = await enter(world, tab);
  tab.dispatch("offline");
  await world.time.pass(10_000);
  assert.equal(room.state, "open");
  assert.equal(world.server.sockets.length, 2);
  room.say("on loopback");
  await world.time.pass(1000);
  assert.deepEqual(world.server.contents("general"), ["on loopback"]);
});

test("a browser that is offline says so soon, goes on trying, and is back by itself", async () => {
  const { world, tab, room, told } = await talking();
  const { server, time } = world;
  server.socket(ROOM).answersPings = false;
  server.refusesSockets = true;
  tab.navigator.onLine = false;
  tab.dispatch("offline");
  await time.pass(3000);
  assert.ok(["offline", "connecting"].includes(room.state), room.state);
  assert.ok(told.some(([type, { state }]) => type === "state" && state === "offline"));
  room.say("kept");
  await time.pass(60_000);
  const dialled = server.sockets.length;
  assert.ok(dialled > 4 && dialled < 60, `${dialled} sockets`);
  server.refusesSockets = false;
  await time.until(() => room.state === "open", 20_000); // no "online" event ever came
  await time.pass(1000);
  assert.deepEqual(server.contents("general"), ["kept"]);
});

test("a line whose socket breaks goes again, once, and before those behind it", async () => {
  const { world, room } = await talking();
  const { server, time } = world;
  for (const text of ["one", "two", "three"]) room.say(text);
  await time.pass(server.latencyMs + 5); // "one" is accepted, its echo is lost
  for (const socket of server.sockets) socket.end(1006);
  await time.pass(20_000);
  assert.deepEqual(server.contents("general"), ["one", "two", "three"]);
  assert.equal(room.outbox.lines.length, 0);
  assert.deepEqual([...room.messages.keys()], [1, 2, 3]);
});

test("lines come in the order they were typed, whatever is done to the clock", async () => {
  const world = new World();
  for (const [content, skewMs] of [["one", 25 * 60_000], ["two", 0], ["three", -60_000]]) {
    const tab = await world.tab({ skewMs });
    new tab.protocol.Outbox("user_1", "general").add({ type: "chat", content, id: content });
    tab.close();
  }
  await enter(world, await world.signedIn());
  await world.time.pass(5000);
  assert.deepEqual(world.server.contents("general"), ["one", "two", "three"]);
});

// Lines that can never be sent.

for (const code of ["VALIDATION_ERROR", "TOO_LARGE", "UNKNOWN_TYPE"]) {
  test(`a line refused with ${code} says so, and those behind it go on`, async () => {
    const { world, room, told } = await talking();
    world.server.onFrame = (socket, frame) => {
      if (frame.content !== "bad") return false;
      socket.refuse(frame, code, { id: frame.id });
      return true;
    };
    for (const text of ["one", "bad", "two"]) room.say(text);
    await world.time.pass(5000);
    assert.deepEqual(world.server.contents("general"), ["one", "two"]);
    const [line] = failed(room);
    assert.equal(line.failed, `${code}.`);
    assert.equal(line.again, false);
    assert.equal(told.filter(([type]) => type === "failed").length, 1);
    room.discard(line.frame.id);
    assert.equal(room.outbox.lines.length, 0);
  });
}

const POISONS = {
  "an error that names nothing": (socket, frame) => socket.refuse(frame, "INVALID_JSON"),
  "the end of the socket for bad data": (socket) => socket.end(1007),
  "the end of the socket for its size": (socket) => socket.end(1009),
  "the end of the socket by a bug": (socket) => socket.end(1011),
  silence: () => {},
};

for (const [what, answer] of Object.entries(POISONS)) {
  test(`a line whose every answer is ${what} fails in the end, after a reload too`, async () => {
    const { world, tab, room } = await talking();
    const { server, time } = world;
    let said = 0;
    server.onFrame = (socket, frame) => {
      if (frame.content !== "poison") return false;
      said += 1;
      answer(socket, frame);
      return true;
    };
    for (const text of ["poison", "behind it"]) room.say(text);
    await time.until(() => said === 2);
    tab.close();
    const { room: later, told } = await enter(world, await world.again());
    await time.pass(120_000);
    assert.deepEqual(server.contents("general"), ["behind it"]);
    assert.equal(failed(later).length, 1);
    assert.equal(later.state, "open");
    assert.ok(said <= 4, `said ${said} times`);
    assert.ok(!told.some(([type]) => type === "final"));
    // And once more, when the person says so.
    server.onFrame = () => false;
    later.retry(failed(later)[0].frame.id);
    await time.pass(5000);
    assert.deepEqual(server.contents("general"), ["behind it", "poison"]);
    assert.equal(later.outbox.lines.length, 0);
  });
}

test("a network that breaks again and again is held against no line", async () => {
  const { world, room } = await talking();
  world.server.onFrame = (socket, { type }) => {
    if (type === "chat") socket.end(1006);
    return type === "chat";
  };
  room.say("through a tunnel");
  await world.time.pass(240_000);
  assert.equal(failed(room).length, 0);
  world.server.onFrame = () => false;
  await world.time.pass(20_000);
  assert.deepEqual(world.server.contents("general"), ["through a tunnel"]);
});

test("storage that is away for long is waited for", async () => {
  const { world, room } = await talking();
  world.server.onFrame = (socket, frame) => {
    if (frame.type !== "chat") return false;
    socket.refuse(frame, "STORAGE_UNAVAILABLE", { id: frame.id, retryable: true, retryAfterMs: 900 });
    return true;
  };
  for (const text of ["one", "two"]) room.say(text);
  await world.time.pass(120_000);
  assert.equal(failed(room).length, 0);
  world.server.onFrame = () => false;
  await world.time.pass(5000);
  assert.deepEqual(world.server.contents("general"), ["one", "two"]);
});

for (const order of ["before", "after"]) {
  test(`an id that was another message's, told ${order} its echo: the line may be said under a new one`, async () => {
    const { world, tab, room, told } = await talking();
    world.server.room("general").push({ id: "taken", seq: 1, senderId: "user_1", content: "old words", type: "chat" });
    world.server.onFrame = (socket, frame) => {
      if (frame.content !== "new words" || told.some(([type]) => type === "failed")) return false;
      const error = () => socket.refuse(frame, "ID_REUSED", { id: frame.id });
      const echo = () => socket.say({ ...world.server.room("general")[0], id: frame.id });
      for (const say of order === "before" ? [error, echo] : [echo, error]) say();
      return true;
    };
    const { frame } = room.say("new words");
    room.say("behind it");
    await world.time.pass(1000);
    const [line] = failed(room);
    assert.deepEqual([line.frame.content, line.again], ["new words", true]);
    assert.notEqual(line.frame.id, frame.id);
    room.retry(line.frame.id);
    await world.time.pass(1000);
    assert.deepEqual(world.server.contents("general"), ["old words", "behind it", "new words"]);
    assert.equal(room.outbox.lines.length, 0);
    assert.equal([...world.disk.items.keys()].filter((key) => key.includes("outbox")).length, 0);
    assert.deepEqual(tab.faults, []);
  });
}

test("a fault of the server's own says so, and the line may be said again as the same", async () => {
  const { world, room } = await talking();
  let faulty = true;
  world.server.onFrame = (socket, frame) => {
    if (frame.type !== "chat" || !faulty) return false;
    socket.refuse(frame, "INTERNAL_ERROR", { id: frame.id });
    faulty = false;
    return true;
  };
  const { frame } = room.say("hello");
  await world.time.pass(1000);
  assert.equal(failed(room)[0].again, true);
  room.retry(frame.id);
  await world.time.pass(1000);
  assert.deepEqual(
    world.server.room("general").map(({ id }) => id),
    [frame.id],
  );
});

test("half a character is repaired before it is sent", async () => {
  const { world, room } = await talking();
  for (const text of ["a\ud800", "\udc00b", "\ud83d\ude00 whole", "\ude00\ud83d"]) room.say(text);
  await world.time.pass(2000);
  const whole = ["a\ufffd", "\ufffdb", "\ud83d\ude00 whole", "\ufffd\ufffd"];
  assert.deepEqual(world.server.contents("general"), whole);
});

test("without String.prototype.toWellFormed too", async () => {
  const world = new World();
  const tab = await world.tab();
  const { wellFormed } = await tab.load("protocol/outbox.js");
  const none = { toWellFormed: undefined, replace: (...how) => "a\ud800\ud83d\ude00\udc00".replace(...how) };
  assert.equal(wellFormed(none), "a\ufffd\ud83d\ude00\ufffd");
});

test("what waits to be sent is bounded", async () => {
  const { world, room } = await talking();
  world.server.onFrame = () => true;
  for (let n = 0; n < 256; n++) assert.ok(room.say(`${n}`));
  assert.equal(room.say("one too many"), undefined);
});

test("a browser that keeps nothing can still talk", async () => {
  const { world, room, tab } = await talking({ storage: false });
  room.say("no trace");
  await world.time.pass(1000);
  assert.deepEqual(world.server.contents("general"), ["no trace"]);
  assert.equal(room.outbox.lines.length, 0);
  assert.deepEqual(tab.faults, []);
});

// Reading.

test("what was read is told again on the next socket", async () => {
  const { world, room } = await talking();
  const message = world.server.accept(world.server.socket(ROOM), { id: "m", content: "read me" }, "user_2");
  await world.time.pass(1000);
  const acks = () => world.server.socket(ROOM).received.filter(({ type }) => type === "ack");
  room.on("settled", () => room.acknowledge(message, "read"));
  room.acknowledge(message, "read");
  room.acknowledge(message, "read");
  await world.time.pass(100);
  assert.deepEqual(acks(), [{ type: "ack", ackId: "m", status: "read" }]);
  for (const socket of world.server.sockets) socket.end(1006);
  await world.time.pass(20_000);
  assert.deepEqual(acks(), [{ type: "ack", ackId: "m", status: "read" }]);
});

// Being there.

test("who appears offline says so before any socket opens, over a slow line too", async () => {
  const world = new World();
  const tab = await world.signedIn();
  world.server.faults.set("POST /api/presence", { delayMs: 4000 });
  const messenger = new tab.protocol.Messenger(tab.session);
  messenger.setPresence("offline");
  messenger.start();
  messenger.join("general");
  await world.time.pass(3500);
  assert.deepEqual(world.server.sockets, []);
  await world.time.until(() => world.server.socket(ROOM));
  const posts = world.server.calls.filter(({ path }) => path === "/api/presence");
  assert.deepEqual(posts.map(({ body }) => body), [{ status: "offline" }]);
  // The server remembers for a while. Of a longer cut it must be told first.
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(30_000);
  assert.equal(world.server.count("/api/presence"), 1);
  world.server.refusesSockets = true;
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(120_000);
  const before = world.server.sockets.length;
  const asked = world.server.count("/api/presence");
  world.server.refusesSockets = false;
  await world.time.until(() => world.server.sockets.length > before);
  assert.ok(asked >= 2);
});

test("who is simply online waits for nothing", async () => {
  const { world } = await talking();
  assert.equal(world.server.count("/api/presence"), 0);
});

test("a server that will not have us says why", async () => {
  const world = new World();
  const tab = await world.signedIn();
  const why = "Origin http://chat.example is not allowed here.";
  world.server.faults.set("POST /api/auth/ticket", { refuse: [403, ["ORIGIN_NOT_ALLOWED", why]] });
  const messenger = new tab.protocol.Messenger(tab.session);
  const states = [];
  messenger.on("connection", (state) => states.push(plain(state)));
  messenger.start();
  await world.time.pass(10_000);
  const { state, ...told } = states.at(-1);
  assert.ok(["waiting", "connecting"].includes(state));
  assert.equal(told.why, why);
  world.server.faults.clear();
  await world.time.pass(20_000);
  assert.equal(states.at(-1).state, "open");
  assert.equal(states.at(-1).why, undefined);
});

test("a click into a room during a refresh opens it", async () => {
  const world = new World();
  const tab = await world.signedIn();
  const messenger = new tab.protocol.Messenger(tab.session);
  const ended = [];
  messenger.on("ended", ({ reason }) => ended.push(reason));
  messenger.start();
  await world.time.pass(1000);
  world.server.faults.set("POST /api/auth/refresh", { delayMs: 2000 });
  tab.session.refresh();
  await world.time.pass(100);
  const { room } = tab.join(messenger, "general");
  await world.time.pass(5000);
  assert.equal(room.state, "open");
  assert.deepEqual(ended, []);
});

test("an event of a type that is not known has its number, and is shown by its content", async () => {
  const { world, room, told } = await talking();
  const knock = { type: "knock", id: "k-1", senderId: "user_2", displayName: "Tom", content: "knocks.", timestamp: 1 };
  world.server.socket(ROOM).say({ ...knock, seq: 1 });
  world.server.socket(ROOM).say({ type: "bare", seq: 2 });
  await world.time.pass(1000);
  const shown = told.flatMap(([type, { messages }]) => (type === "messages" ? messages : []));
  assert.deepEqual(plain(shown.map(({ content }) => content)), ["knocks."]);
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(30_000);
  assert.equal(world.server.socket(ROOM).since, "2");
  assert.equal(room.state, "open");
});
