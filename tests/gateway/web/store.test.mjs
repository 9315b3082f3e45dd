// What the page knows of people: one name, one status, wherever they were chosen.

import assert from "node:assert/strict";
import { test } from "node:test";

import { plain, World } from "./world.mjs";

const PRESENCE = "/api/ws/presence";
const MAYA = { id: "user_1", displayName: "Maya", avatarId: "cat", status: "online" };
const TOM = { id: "user_2", displayName: "Tom", avatarId: "dog", personalMessage: "hm", status: "offline" };

/** The store and the messenger, joined as the page joins them. */
async function page(world, tab) {
  const { Store } = await tab.load("store.js");
  const store = new Store(tab.session);
  const messenger = new tab.protocol.Messenger(tab.session);
  messenger.on("presence", (news) => store.presence(news));
  store.on("me", () => store.status === messenger.status || messenger.adoptPresence(store.status));
  world.server.answers = { "/api/users": [MAYA, TOM], "/api/rooms": [] };
  const loading = store.load(() => false);
  await world.time.pass(1000);
  await loading;
  messenger.start();
  await world.time.pass(1000);
  const say = async (frame) => {
    world.server.socket(PRESENCE).say(frame);
    await world.time.pass(1000);
  };
  return { store, messenger, say };
}

test("a new name, message and picture are shown as they come, and go", async () => {
  const world = new World();
  const { store, say } = await page(world, await world.signedIn());
  const update = { type: "presence_update", userId: "user_2", status: "busy" };
  await say({ ...update, displayName: "Tom B", personalMessage: "new", avatarId: "owl" });
  const { displayName, personalMessage, avatarId, status } = store.person("user_2");
  assert.deepEqual([displayName, personalMessage, avatarId, status], ["Tom B", "new", "owl", "busy"]);
  await say({ ...update, displayName: "Tom B", avatarId: "owl" });
  assert.equal(store.person("user_2").personalMessage, undefined);
  await say({ type: "presence_full_sync", partial: true, participants: [{ ...TOM, status: "away" }] });
  assert.equal(store.person("user_2").displayName, "Tom");
  assert.equal(store.person("user_2").personalMessage, "hm");
});

test("a name or a status chosen on another device is one's own too", async () => {
  const world = new World();
  const tab = await world.signedIn();
  const { store, messenger, say } = await page(world, tab);
  const me = { type: "presence_update", userId: "user_1", avatarId: "cat" };
  await say({ ...me, displayName: "Maya 2", status: "busy" });
  assert.deepEqual([store.me.displayName, store.status, messenger.status], ["Maya 2", "busy", "busy"]);
  // And is not undone by this one, neither by its next socket nor by its next page.
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(30_000);
  assert.equal(world.server.count("/api/presence"), 0);
  tab.close();
  const again = await page(world, await world.again());
  await again.say({ ...me, displayName: "Maya 3", status: "busy" });
  assert.equal(again.store.me.displayName, "Maya 3");
  const said = world.server.sockets.flatMap(({ received }) => received);
  assert.ok(said.every(({ displayName }) => displayName === undefined));
});

test("a choice is not undone by older news, and outlives its socket", async () => {
  const world = new World();
  const { store, messenger, say } = await page(world, await world.signedIn());
  store.setStatus("offline");
  messenger.setPresence("offline"); // which is lost with its socket
  await say({ type: "presence_full_sync", participants: [MAYA] });
  assert.equal(store.status, "offline");
  for (const socket of world.server.sockets) socket.end(1006);
  world.server.people = [];
  await world.time.pass(30_000);
  const [{ body }] = world.server.calls.filter(({ path }) => path === "/api/presence");
  assert.deepEqual(body, { status: "offline" });
  assert.equal(store.status, "offline");
});

test("a rename is what the server says it is, or an error", async () => {
  const world = new World();
  const { messenger } = await page(world, await world.signedIn());
  const renaming = messenger.rename("Maya!");
  await world.time.pass(1000);
  assert.equal(await renaming, "Maya!");
  const posts = world.server.calls.filter(({ path }) => path === "/api/presence");
  assert.deepEqual(posts[0].body, { status: "online", displayName: "Maya!" });
  world.server.faults.set("POST /api/presence", { refuse: [429, ["RATE_LIMITED", "Not that often."]] });
  const refused = assert.rejects(messenger.rename("Maya?"), { code: "RATE_LIMITED" });
  await world.time.pass(1000);
  await refused;
});

test("what is unread is what the server says, where nobody looks", async () => {
  const world = new World();
  const { store } = await page(world, await world.signedIn());
  const room = { id: "dm_user_1__user_2", type: "direct", unreadCount: 3 };
  for (const [unreadCount, open, wanted] of [[3, false, 3], [0, false, 0], [2, true, 0]]) {
    world.server.answers["/api/rooms"] = [{ ...room, unreadCount }];
    const loading = store.load(() => open);
    await world.time.pass(1000);
    await loading;
    assert.equal(store.unread(room.id), wanted);
  }
});

test("what comes when the page has signed out is not told", async () => {
  const world = new World();
  const { store } = await page(world, await world.signedIn());
  const told = [];
  for (const type of ["people", "rooms", "unread"]) store.on(type, () => told.push(type));
  const room = { id: "dm_user_1__user_2", type: "direct", unreadCount: 3 };
  world.server.answers["/api/rooms"] = [room];
  const loading = store.load(() => false);
  store.close();
  await world.time.pass(1000);
  await loading;
  assert.deepEqual(told, []);
});

test("what is kept and makes no sense is a choice that was not made", async () => {
  for (const nonsense of ["{", "7", "busy", '{"status":"dancing"}', '{"status":"toString"}']) {
    const world = new World();
    world.disk.items.set("cfm.me.user_1", nonsense);
    world.disk.items.set("cfm.read.general.user_1", nonsense.replace("7", '"many"'));
    const { store } = await page(world, await world.signedIn());
    assert.equal(store.status, "online");
    assert.equal(store.readMark("general"), 0);
    assert.deepEqual(plain(store.contacts()).map(({ id }) => id), ["user_2"]);
  }
});

test("in a crowd nobody is offline for not being named, and who is shown is watched", async () => {
  const world = new World();
  const { store, messenger, say } = await page(world, await world.signedIn());
  messenger.on("crowd", (crowd) => store.crowd(crowd));
  const sync = { type: "presence_full_sync", online: 4000, scope: "watched" };
  await say({ type: "presence_update", userId: "user_2", displayName: "Tom", status: "busy" });
  store.watched = new Set(["user_2"]);
  for (const ids of [["user_2"], ["user_2", "user_7"], ["user_2", "user_7", "user_8"]]) messenger.watch(ids);
  await say({ ...sync, participants: [MAYA] });
  assert.deepEqual([store.online, store.crowded, store.person("user_2").status], [4000, true, "busy"]);
  const watches = () => world.server.sockets.flatMap(({ received }) => received).filter(({ type }) => /watch/.test(type));
  // Once, however often it changes meanwhile.
  assert.deepEqual(watches(), [{ type: "watch", userIds: ["user_2", "user_7", "user_8"] }]);
  await say({ ...sync, participants: [{ ...TOM, status: "offline" }], partial: true });
  assert.equal(store.person("user_2").status, "offline");
  messenger.watch(["user_8", "user_9"]);
  await world.time.pass(1000);
  assert.deepEqual(watches().slice(1), [
    { type: "unwatch", userIds: ["user_2", "user_7"] },
    { type: "watch", userIds: ["user_9"] },
  ]);
  // Said again by the next socket, and never more than 500.
  messenger.watch(Array.from({ length: 700 }, (_, n) => `user_${n}`));
  await world.time.pass(1000);
  for (const socket of world.server.sockets) socket.end(1012);
  await world.time.pass(30_000);
  const last = world.server.sockets.at(-1).received.filter(({ type }) => type === "watch");
  assert.deepEqual(last.map(({ userIds }) => userIds.length), [200, 200, 100]);
  // Out of the crowd: whoever is not named is offline.
  await say({ type: "presence_full_sync", participants: [MAYA], online: 1, scope: "all" });
  assert.deepEqual([store.crowded, store.person("user_2").status], [false, "offline"]);
});

test("what the list of people says counts in a crowd for whom nobody watches", async () => {
  const world = new World();
  const { store, messenger, say } = await page(world, await world.signedIn());
  messenger.on("crowd", (crowd) => store.crowd(crowd));
  store.watched = new Set(["user_1"]);
  await say({ type: "presence_full_sync", participants: [MAYA], online: 4000, scope: "watched" });
  world.server.answers["/api/users"] = [MAYA, { ...TOM, status: "away" }];
  const loading = store.load(() => false);
  await world.time.pass(1000);
  await loading;
  assert.equal(store.person("user_2").status, "away");
});
