"""Rooms that go quiet leave no process behind, and nobody notices.

Ten rooms with sockets on both gateways talk and go quiet; when no room process is left
a message in each must reach the sockets of both gateways, with the history whole and
the nudge limit still counting from before the sleep.
"""

from __future__ import annotations

import asyncio
import time

from tests.system.chaos import history as h
from tests.system.chaos.client import Chatter
from tests.system.chaos.experiment.scene import Scene, milliseconds, scene

ROOMS = 10
SEATS = 6
HIBERNATE_AFTER_S = 5.0
PAUSE_S = 1.5
"""Between rooms, so that another warm worker may get ready."""


async def run(seed: int) -> bool:
    env = {
        "CFM_GATEWAYS": "2",
        "CFM_HIBERNATE_AFTER": str(HIBERNATE_AFTER_S),
        # Longer than the sleep, so that what it counts can be told from oblivion.
        "CFM_NUDGE_RATE": "3/60",
    }
    async with scene(SEATS, seed, **env) as s:
        rooms = [f"room-{n}" for n in range(ROOMS)]
        seats = {
            room: [await s.chatter(f"{room}.{n}", n, room) for n in range(SEATS)]
            for room in rooms
        }
        await s.connected()
        sockets = await s.split()
        for seat in seats.values():
            for _ in range(3):
                await seat[0].say("nudge")
                await seat[1].say()
        await s.settled()
        await _quiet(s, sockets)
        asleep, awake = await _speak(s, seats)
        s.say(f"first reply of a room that sleeps, one by one: {milliseconds(asleep)}")
        s.say(f"the next reply, awake: {milliseconds(awake)}")
        await _nudges(s, seats)
        await _together(s, seats)
        await s.read_logs()
        found = s.verdict()
        s.expect(not found, "the checker's verdict")
        return not s.failed


async def _quiet(s: Scene, sockets: dict[str, int]) -> None:
    began = time.monotonic()
    awake: list[str] = ["?"]
    # Presence sleeps too: it has sockets, and nothing to do.
    while awake and time.monotonic() < began + HIBERNATE_AFTER_S + 8:
        await asyncio.sleep(0.5)
        awake = [each.name for each in await s.messenger.rooms()]
    took = time.monotonic() - began
    await asyncio.sleep(max(0.0, 10.0 - took))
    actors = s.messenger.command("ray::ObjectActor")
    here = sum(each.connected.is_set() for each in s.chatters)
    s.say(
        f"{ROOMS} rooms, {len(s.chatters)} sockets {sockets}; quiet for "
        f"{time.monotonic() - began:.0f} s: awake {awake or 'nothing'} (since "
        f"{took:.1f} s), room processes {len(actors)}, sockets open {here}"
    )
    s.expect(not awake, f"still awake: {awake}")
    s.expect(not actors, "room processes are left")
    s.expect(here == len(s.chatters), "sockets were closed")


async def _speak(
    s: Scene, seats: dict[str, list[Chatter]]
) -> tuple[list[float], list[float]]:
    """Two messages in each room, which everyone there gets: ms until the echoes."""
    asleep: list[float] = []
    awake: list[float] = []
    for seat in seats.values():
        for who, waits in ((seat[2], asleep), (seat[3], awake)):
            t = time.monotonic()
            await who.say()
            await s.settled(10.0)
            ok = s.history.all(h.Ok)[-1]
            waits.append((ok.t - t) * 1000)
            end = time.monotonic() + 3.0
            while any(each.last_seq < ok.seq for each in seat):
                if time.monotonic() > end:
                    late = [each.name for each in seat if each.last_seq < ok.seq]
                    s.expect(False, f"{late} did not get {ok.seq}")
                    break
                await asyncio.sleep(0.005)
        await asyncio.sleep(PAUSE_S)
    return asleep, awake


async def _nudges(s: Scene, seats: dict[str, list[Chatter]]) -> None:
    before = len(s.history.all(h.Refused))
    for seat in seats.values():
        await seat[0].say("nudge")
    await s.settled()
    refused = s.history.all(h.Refused)[before:]
    limited = sum(each.code == "RATE_LIMITED" for each in refused)
    s.say(f"a fourth nudge in each room after the sleep: {limited} RATE_LIMITED")
    s.expect(limited == ROOMS, "the nudge limit was forgotten")


async def _together(s: Scene, seats: dict[str, list[Chatter]]) -> None:
    """All ten asleep again, then woken at once."""
    end = time.monotonic() + HIBERNATE_AFTER_S + 8
    while await s.messenger.rooms() and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.3)
    before = len(s.history.all(h.Ok))
    t = time.monotonic()
    await asyncio.gather(*(seat[4].say() for seat in seats.values()))
    await s.settled()
    waits = [(ok.t - t) * 1000 for ok in s.history.all(h.Ok)[before:]]
    s.say(f"all ten woken at the same moment: {milliseconds(waits)}")
