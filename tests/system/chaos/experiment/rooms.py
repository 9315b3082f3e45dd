"""A room's process is killed again and again, or stopped while another takes over."""

from __future__ import annotations

import asyncio
import signal
import time

from cfmessenger.chat.compose import compose
from cfmessenger.cli import process
from cfmessenger.storage import keys
from cfmessenger.storage.log import Commit, ValkeyLog
from cfmessenger.wire.protocol import Chat, encode
from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import Scene, scene

ROOM = "general"
SOCKETS = 100
KILLS = 20
STOPPED_S = 30.0
FENCED_S = 1.5
"""Less than the silence after which gateways have a process ended."""


async def _full_room(s: Scene, sockets: int) -> None:
    for n in range(sockets):
        await s.chatter(f"c{n}", n % 25, ROOM, retries=n % 2 == 0)
    await s.connected()


async def kill(seed: int) -> bool:
    """`kill -9` of `room:general` 20 times, 100 sockets on 2 gateways, 200 msg/s."""
    async with scene(25, seed, CFM_GATEWAYS="2") as s:
        await _full_room(s, SOCKETS)
        s.say(f"{SOCKETS} sockets on {await s.split()}")
        talk = s.talk(s.chatters, 200.0)
        await asyncio.sleep(3.0)
        kills: list[float] = []
        while len(kills) < KILLS:
            row = await s.messenger.room(f"room:{ROOM}")
            if row is not None:
                t = time.monotonic()
                s.messenger.send(row, signal.SIGKILL)
                kills.append(t)
                s.history.add(h.Fault(t, t, "kill-room", str(row.pid), [ROOM]))
            await asyncio.sleep(s.rng.uniform(1.0, 2.0))
        await asyncio.sleep(2.0)
        talk.cancel()
        s.expect(await s.settled(), "not everything was answered")
        await s.read_logs()
        epochs = [each.epoch for each in await s.messenger.rooms() if ROOM in each.name]
        found = s.verdict()
        s.say(f"{len(kills)} kills, epoch now {epochs}; pause after each: ")
        s.say(f"  {s.pauses(kills)} (cold starts unless a warm worker was free)")
        s.expect(not found, "the checker's verdict")
        return not s.failed


async def stop(seed: int) -> bool:
    """SIGSTOP a room's process for 30 s; another takes over; SIGCONT it.

    The gateways have a hung process ended, so the first never wakes up. In the second
    part one does: it is stopped for less than they are patient, and a second
    activation, made here, takes the epoch and speaks in the meantime.
    """
    async with scene(25, seed, CFM_GATEWAYS="2") as s:
        await _full_room(s, 20)
        talk = s.talk(s.chatters, 40.0)
        await asyncio.sleep(2.0)
        hung = await _hang(s)
        fenced = await _fence(s)
        await asyncio.sleep(3.0)
        talk.cancel()
        s.expect(await s.settled(), "not everything was answered")
        await s.read_logs()
        found = s.verdict()
        epochs = await _epochs(s)
        s.say(f"epochs in the log, in order: {epochs}; pause after the 30 s stop")
        s.say(f"  {s.pauses([hung])}, after the fencing {s.pauses([fenced])}")
        s.expect(epochs == sorted(epochs), "epochs go back")
        s.expect(not found, "the checker's verdict")
        return not s.failed


async def _hang(s: Scene) -> float:
    row = await s.messenger.room(f"room:{ROOM}")
    assert row is not None
    t = time.monotonic()
    s.messenger.send(row, signal.SIGSTOP)
    s.history.add(h.Fault(t, t + STOPPED_S, "stop-room", str(row.pid), [ROOM]))
    ended = asyncio.create_task(_gone(row, STOPPED_S))
    second = await _another(s, row.pid)
    took = time.monotonic() - t
    s.expect(second is not None, "nobody took over")
    gone = await ended
    at = "outlived 30 s" if gone is None else f"was ended {gone:.1f} s after the stop"
    s.say(f"stopped pid {row.pid}; pid {second} speaks for {ROOM} after {took:.1f} s")
    await asyncio.sleep(max(0.0, STOPPED_S - (time.monotonic() - t)))
    s.messenger.send(row, signal.SIGCONT)
    exited = await _gone(row, 10.0)
    s.expect(exited is not None, "the old process lives on")
    s.say(f"  the old one {at}; after SIGCONT it was gone within {exited or 0:.2f} s")
    return t


async def _fence(s: Scene) -> float:
    """Two activations at once, and both try to write."""
    row = await s.messenger.room(f"room:{ROOM}")
    assert row is not None
    url = (s.messenger.runtime / "valkey.url").read_text()
    log = ValkeyLog(url, 1_000_000)
    t = time.monotonic()
    s.messenger.send(row, signal.SIGSTOP)
    try:
        found = await log.activate(f"room:{ROOM}")
        event = _intruder(s, found.seq + 1)
        commit = Commit(f"room:{ROOM}", found.epoch, [(found.seq + 1, event)])
        outcome = await log.commit([commit])
        # What the clients say now waits inside the stopped process's links.
        await asyncio.sleep(FENCED_S)
    finally:
        s.messenger.send(row, signal.SIGCONT)
        log.close()
    s.history.add(h.Fault(t, time.monotonic(), "fence-room", str(row.pid), [ROOM]))
    gone = await _gone(row, 10.0)
    after = "lives on" if gone is None else f"ended {gone * 1000:.0f} ms after SIGCONT"
    s.say(
        f"second activation: epoch {found.epoch} wrote seq {found.seq + 1} "
        f"({outcome}) while pid {row.pid} was stopped for {FENCED_S} s; that {after}"
    )
    for line in s.messenger.actor_log("duplicate_activation"):
        s.say(f"  its log: {line}")
    s.expect(gone is not None, "the superseded process did not end")
    return t


def _intruder(s: Scene, seq: int) -> bytes:
    """A message of the second activation, as the log holds it."""
    each = s.chatters[0]
    message_id = "from-the-second-activation"
    at = time.time_ns() // 1_000_000
    name = s.messenger.display_name(0)
    who = each.name, each.user, ROOM
    s.history.add(h.Invoke(time.monotonic(), *who, "chat", message_id))
    said = Chat("from the second activation", message_id)
    return encode(compose(said, message_id, ROOM, each.user, name, at, seq))


async def _another(s: Scene, pid: int) -> int | None:
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        for each in await s.messenger.rooms():
            if each.name == f"room:{ROOM}" and each.pid not in (0, pid):
                return each.pid
        await asyncio.sleep(0.1)
    return None


async def _gone(row: process.Entry, timeout_s: float) -> float | None:
    began = time.monotonic()
    while time.monotonic() < began + timeout_s:
        now = process.entry(row.pid)
        if now is None or now.start != row.start or now.state == "Z":
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    return None


async def _epochs(s: Scene) -> list[int]:
    """Which epochs wrote, in the order of the log; read straight from Valkey."""
    kv = s.messenger.valkey()
    try:
        entries = await kv.xrange(keys.log(f"room:{ROOM}"))
    finally:
        await kv.aclose()
    found: list[int] = []
    for entry_id, _ in entries:
        epoch = int(entry_id.split(b"-")[0])
        if not found or found[-1] != epoch:
            found.append(epoch)
    return found
