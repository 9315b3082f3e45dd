// The session: renewed in time, by one tab for all, and never given up while it lives.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./world.mjs";

const REFRESH = "POST /api/auth/refresh";
const KEPT = "cfm.session";

for (const locks of [true, false]) {
  const where = locks ? "with Web Locks" : "over plain HTTP";

  test(`a call that crosses a refresh waits for the new id, ${where}`, async () => {
    const world = new World();
    const tab = await world.signedIn({ locks });
    const other = await world.again({ locks });
    world.server.faults.set(REFRESH, { delayMs: 3000 });
    const ended = [];
    for (const each of [tab, other]) each.session.on("ended", ({ reason }) => ended.push(reason));
    const refreshing = tab.session.refresh();
    await world.time.pass(100); // the old id is dead, the new one on its way
    const mine = tab.session.ticket();
    const others = other.session.ticket();
    await world.time.pass(9000);
    await refreshing;
    assert.match(await mine, /^t/);
    assert.match(await others, /^t/);
    assert.deepEqual(ended, []);
    assert.equal(JSON.parse(world.disk.items.get(KEPT)).sessionId, world.server.sessionId);
    assert.equal(world.server.count("/api/auth/refresh"), 1);
  });
}

test("many tabs refresh once", async () => {
  const world = new World();
  const tabs = [await world.signedIn(), await world.again(), await world.again()];
  const refreshing = tabs.map(({ session }) => session.refresh());
  await world.time.pass(5000);
  await Promise.all(refreshing);
  assert.equal(world.server.count("/api/auth/refresh"), 1);
  for (const { session } of tabs) assert.equal(session.sessionId, world.server.sessionId);
});

test("signing out while a refresh is on its way ends the new session too", async () => {
  const world = new World();
  const tab = await world.signedIn();
  world.server.faults.set(REFRESH, { delayMs: 2000 });
  tab.session.refresh();
  await world.time.pass(100);
  const leaving = tab.session.signOut();
  await world.time.pass(10_000);
  await leaving;
  assert.equal(world.server.sessionId, undefined);
  assert.equal(world.disk.items.has(KEPT), false);
});

test("a session that is over ends, once, in every tab", async () => {
  const world = new World();
  const tab = await world.signedIn();
  const other = await world.again();
  const reasons = [];
  for (const each of [tab, other]) each.session.on("ended", ({ reason }) => reasons.push(reason));
  world.server.sessionId = undefined;
  const asked = tab.session.ticket().catch(({ code }) => code);
  await world.time.pass(15_000);
  assert.equal(await asked, "AUTH_EXPIRED");
  assert.deepEqual(reasons.sort(), ["expired", "signed-out"]);
  assert.equal(world.disk.items.has(KEPT), false);
});

for (const minutes of [25, -25, 60 * 24 * 365]) {
  test(`a clock that is ${minutes} minutes off changes nothing`, async () => {
    const world = new World();
    const tab = await world.signedIn({ skewMs: minutes * 60_000 });
    await world.time.pass(10 * 60_000);
    assert.equal(world.server.count("/api/auth/refresh"), 0);
    await world.time.pass(3 * 60 * 60_000);
    const refreshes = world.server.count("/api/auth/refresh");
    assert.ok(refreshes >= 9 && refreshes <= 13, `${refreshes} refreshes`);
    assert.equal(tab.session.sessionId, world.server.sessionId);
  });

  test(`nor does it after a reload, ${minutes} minutes off`, async () => {
    const world = new World();
    const skewMs = minutes * 60_000;
    (await world.signedIn({ skewMs })).close();
    const tab = await world.again({ skewMs });
    tab.session.ticket();
    await world.time.pass(10 * 60_000);
    assert.equal(world.server.count("/api/auth/refresh"), 0);
    await world.time.pass(11 * 60_000);
    assert.equal(world.server.count("/api/auth/refresh"), 1);
    assert.equal(tab.session.sessionId, world.server.sessionId);
  });
}

test("whatever the server says of the end, a page does not refresh without pause", async () => {
  for (const sessionMs of [-60_000, 0, 1, 3000]) {
    const world = new World();
    world.server.sessionMs = sessionMs;
    await world.signedIn();
    await world.time.pass(10 * 60_000);
    const refreshes = world.server.count("/api/auth/refresh");
    assert.ok(refreshes <= 120, `${refreshes} refreshes in 10 minutes`);
  }
});

test("a refresh that is refused for now is tried again, not each second", async () => {
  const world = new World();
  const tab = await world.signedIn();
  world.server.faults.set(REFRESH, { refuse: [503, ["UNAVAILABLE", "Try again."]] });
  tab.session.expiring(tab.session.expiresAt);
  await world.time.pass(60_000);
  const tries = world.server.count("/api/auth/refresh");
  assert.ok(tries >= 3 && tries <= 12, `${tries} tries`);
  world.server.faults.clear();
  await world.time.pass(15_000);
  assert.equal(tab.session.sessionId, "s2");
});

test("however many sockets warn, and however often, it is one refresh", async () => {
  const world = new World();
  const tab = await world.signedIn();
  const { expiresAt } = tab.session;
  for (let warned = 0; warned < 20; warned++) {
    tab.session.expiring(expiresAt);
    await world.time.pass(1000);
  }
  assert.equal(world.server.count("/api/auth/refresh"), 1);
});

test("a disk that is full, or that the browser refuses, costs no session", async () => {
  for (const storage of [true, false]) {
    const world = new World();
    world.disk.full = true;
    const tab = await world.signedIn({ storage });
    const refreshing = tab.session.refresh();
    await world.time.pass(5000);
    await refreshing;
    const asked = tab.session.ticket();
    await world.time.pass(5000);
    assert.match(await asked, /^t/);
    assert.equal(tab.protocol.kept.lasting, false);
  }
});

test("what is kept and makes no sense is nobody signed in", async () => {
  for (const nonsense of ["{", "word", "{}", "7", '"x"', '{"sessionId":"s1"}', '{"user":{"id":"user_1"}}']) {
    const world = new World();
    world.disk.items.set(KEPT, nonsense);
    assert.equal((await world.again()).session, undefined, nonsense);
  }
});

test("choices that an earlier release kept as bare words still hold", async () => {
  for (const [word, on] of [["off", false], ["on", true]]) {
    const world = new World();
    world.disk.items.set("cfm.sound", word);
    world.disk.items.set("cfm.notifications", word);
    world.disk.items.set("cfm.last", "user_1");
    const tab = await world.tab();
    const { setSound, soundIsOn } = await tab.load("sounds.js");
    assert.equal(soundIsOn(), on);
    const { kept } = tab.protocol;
    assert.equal(kept.read("cfm.notifications"), word);
    assert.equal(kept.read("cfm.last"), "user_1");
    setSound(!on);
    const later = await world.tab();
    assert.equal((await later.load("sounds.js")).soundIsOn(), !on);
  }
});

test("an answer that is no envelope is a server that is not reached", async () => {
  const world = new World();
  const tab = await world.signedIn();
  tab.context.fetch = async () => ({ status: 502, headers: { get: () => null }, json: async () => null });
  await assert.rejects(tab.session.ticket(), { code: "OFFLINE" });
});
