"""The nemesis: what is done to the messenger, when, and how long.

Owns the kinds of faults and their seeded order: every kind once in a shuffled deck,
then the next deck, so that a short run is broad and a long one deep. Each is recorded
with its times, the rooms it could be felt in and the sockets it was bound to close.
Must not judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable

from cfmessenger.cli.process import Entry
from cfmessenger.errors import Unavailable
from cfmessenger.placement import Mode
from tests.system.chaos import history as h
from tests.system.chaos.history import History
from tests.system.chaos.messenger import Messenger
from tests.system.chaos.workload import Population

STOP_ROOM_S = 10.0
STAY_S = (0.1, 4.0)
POOLS = (1, 2, 3)
STOP_VALKEY_S = (2.0, 7.0)
WARM_UP_S = 2.0
PAUSE_S = (1.0, 3.0)
IN_A_MOVE_S = (0.0, 1.0)
_OF_AUTO = ("promote-room", "demote-room", "pin-room", "kill-namespace-in-a-move")
RATED = "room:nudgers"
"""Hurt more often: its rate windows must survive."""
RECOVER = 0.75
"""How often the next fault waits until this one is over; else they overlap."""
RECOVER_S = 12.0

Act = Callable[[], Awaitable[h.Fault | None]]


class Nemesis:
    """Injects one fault after another until cancelled. `now` is what it is doing."""

    def __init__(
        self,
        messenger: Messenger,
        population: Population,
        history: History,
        rng: random.Random,
        *,
        hibernate_after: float,
        home: tuple[Mode, int] = ("dedicated", 1),
        only: Iterable[str] = (),
    ) -> None:
        self.now = ""
        self.missed: list[str] = []  # found nothing to hurt
        self._messenger = messenger
        self._population = population
        self._history = history
        self._rng = rng
        self._hibernate_after = hibernate_after
        self._home = home
        self._background: set[asyncio.Task[None]] = set()
        self.kinds: dict[str, Act] = {
            "kill-room": self._kill_room,
            "term-room": self._term_room,
            "stop-room": self._stop_room,
            "change-placement": self._change_placement,
            "promote-room": self._promote_room,
            "demote-room": self._demote_room,
            "pin-room": self._pin_room,
            "kill-namespace-in-a-move": self._kill_in_a_move,
            "kill-presence": self._kill_presence,
            "kill-gateway": self._kill_gateway,
            "drain-gateway": self._drain_gateway,
            "kill-namespace": self._kill_namespace,
            "kill-raylet": self._kill_raylet,
            "kill-valkey": self._kill_valkey,
            "term-valkey": self._term_valkey,
            "stop-valkey": self._stop_valkey,
            "quiet": self._quiet,
            "stall-readers": self._stall,
            "drop-clients": self._drop,
        }
        if home[0] != "auto":
            for kind in _OF_AUTO:
                del self.kinds[kind]
        if unknown := set(only) - set(self.kinds):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        if only:
            self.kinds = {kind: self.kinds[kind] for kind in only}

    async def run(self) -> None:
        """Until cancelled. Begins when the rooms are awake and nothing is wrong."""
        await asyncio.sleep(WARM_UP_S)
        await self._population.calm(RECOVER_S)
        await asyncio.sleep(WARM_UP_S)
        deck: list[str] = []
        while True:
            if not deck:
                deck = list(self.kinds)
                self._rng.shuffle(deck)
            kind = deck.pop()
            self.now = kind
            fault = await self.kinds[kind]()
            if fault is None:
                self.missed.append(kind)
                continue
            self._history.add(fault)
            self.now = ""
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            if self._rng.random() < RECOVER:
                await self._population.calm(RECOVER_S)

    async def heal(self) -> None:
        """Nothing of ours goes on."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._messenger.continue_all()
        for each in self._population.idlers:
            each.stalled.set()

    @staticmethod
    def _fault(t: float, kind: str, target: str, **more: list[str]) -> h.Fault:
        return h.Fault(t, time.monotonic(), kind, target, **more)

    # Objects.

    async def _some_room(self) -> tuple[str, Entry, list[str]] | None:
        """A room that is awake, its process, and the rooms that share it."""
        awake = await self._messenger.awake()
        rooms = sorted(name for name in awake if name.startswith("room:"))
        if not rooms:
            return None
        name = self._rng.choice(rooms)
        if RATED in awake and self._rng.random() < 0.25:
            name = RATED
        row = awake[name]
        shared = [r.removeprefix("room:") for r in rooms if awake[r] == row]
        return (name if len(shared) == 1 else f"{len(shared)} rooms"), row, shared

    async def _signal_room(self, kind: str, number: signal.Signals) -> h.Fault | None:
        found = await self._some_room()
        if found is None:
            return None
        target, row, rooms = found
        t = time.monotonic()
        self._messenger.send(row, number)
        return self._fault(t, kind, target, rooms=rooms)

    async def _kill_room(self) -> h.Fault | None:
        return await self._signal_room("kill-room", signal.SIGKILL)

    async def _term_room(self) -> h.Fault | None:
        return await self._signal_room("term-room", signal.SIGTERM)

    async def _kill_presence(self) -> h.Fault | None:
        row = await self._messenger.room("presence:global")
        if row is None:
            return None
        t = time.monotonic()
        self._messenger.send(row, signal.SIGKILL)
        return self._fault(t, "kill-presence", f"pid {row.pid}")

    async def _stop_room(self) -> h.Fault | None:
        """Stopped for 10 s, while other faults go on."""
        found = await self._some_room()
        if found is None:
            return None
        target, row, rooms = found
        t = time.monotonic()
        self._messenger.send(row, signal.SIGSTOP)

        async def go_on() -> None:
            await asyncio.sleep(STOP_ROOM_S)
            self._messenger.send(row, signal.SIGCONT)

        task = asyncio.create_task(go_on())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        until = t + STOP_ROOM_S
        return h.Fault(t, until, "stop-room", target, rooms)

    async def _change_placement(self) -> h.Fault | None:
        """Rooms move elsewhere while they talk, and soon back again."""
        others: list[tuple[Mode, int]] = [("dedicated", 1)]
        others += [("pooled", size) for size in POOLS]
        if self._home[0] == "auto":
            others += [("auto", size) for size in POOLS]
        others.remove(self._home)
        t, been = time.monotonic(), []
        for mode, size in (self._rng.choice(others), self._home):
            if been:
                await asyncio.sleep(self._rng.uniform(*STAY_S))
            try:
                made = await self._messenger.place(mode, size)
            except (Unavailable, TimeoutError):
                continue
            been.append(f"{made.mode} {made.size}")
        target = ", ".join(been)
        return self._fault(t, "change-placement", target) if been else None

    async def _promote_room(self) -> h.Fault | None:
        """A room gets an actor of its own, as if it had been hot."""
        t = time.monotonic()
        with contextlib.suppress(Unavailable, TimeoutError, OSError):
            if (name := await self._promote()) is not None:
                return self._moved(t, "promote-room", name)
        return None

    async def _promote(self) -> str | None:
        now = time.time_ns() // 1_000_000
        awake = sorted(await self._messenger.awake())
        async with self._messenger.generation() as generation:
            placement = await generation.read()
            if placement is None:
                return None
            may = [name for name in awake if placement.may_promote(name, now)]
            if not may:
                return None
            name = self._rng.choice(may)
            made = await generation.promote(name, "hot", now)
            return name if name in made.own else None

    async def _demote_room(self) -> h.Fault | None:
        """One that has its own by what it cost goes back to a pool."""
        t, now = time.monotonic(), time.time_ns() // 1_000_000
        with contextlib.suppress(Unavailable, TimeoutError, OSError):
            async with self._messenger.generation() as generation:
                placement = await generation.read()
                measured = placement.measured() if placement is not None else []
                if measured:
                    name = self._rng.choice(sorted(measured))
                    await generation.demote([name], now)
                    return self._moved(t, "demote-room", name)
        return None

    async def _pin_room(self) -> h.Fault | None:
        """A person pins a room, and soon not any more."""
        awake = await self._messenger.awake()
        rooms = sorted(name for name in awake if name.startswith("room:"))
        if not rooms:
            return None
        t, name = time.monotonic(), self._rng.choice(rooms)
        been = False
        for ask in (self._messenger.pin, self._messenger.unpin):
            if been:
                await asyncio.sleep(self._rng.uniform(*STAY_S))
            with contextlib.suppress(Unavailable, TimeoutError):
                await ask(name)
                been = True
        return self._moved(t, "pin-room", name) if been else None

    async def _kill_in_a_move(self) -> h.Fault | None:
        """Who starts the new process dies between the proposal and the move."""
        t = time.monotonic()
        with contextlib.suppress(Unavailable, TimeoutError, OSError):
            if (name := await self._promote()) is not None:
                await asyncio.sleep(self._rng.uniform(*IN_A_MOVE_S))
                fault = await self._kill_namespace()
                if fault is not None:
                    return self._moved(t, "kill-namespace-in-a-move", name)
        return None

    def _moved(self, t: float, kind: str, name: str) -> h.Fault:
        return self._fault(t, kind, name, rooms=[name.removeprefix("room:")])

    # Gateways.

    async def _gateway(self, kind: str, number: signal.Signals) -> h.Fault | None:
        gateways = self._messenger.gateways()
        if not gateways:
            return None
        here = [each for each in self._population if each.connected.is_set()]
        held = {}
        for name, row in gateways.items():
            ports = self._messenger.ports(row)
            held[name] = [f"{e.name}/{e.socket}" for e in here if e.port in ports]
        name = self._rng.choice(sorted(gateways))
        if self._rng.random() < 0.7:  # the one that was hurt last has few sockets
            name = max(held, key=lambda key: len(held[key]))
        row, sockets = gateways[name], held[name]
        t = time.monotonic()
        self._messenger.send(row, number)
        return self._fault(t, kind, name, sockets=sockets)

    async def _kill_gateway(self) -> h.Fault | None:
        return await self._gateway("kill-gateway", signal.SIGKILL)

    async def _drain_gateway(self) -> h.Fault | None:
        return await self._gateway("drain-gateway", signal.SIGTERM)

    # What everything rests on.

    def _child(self, kind: str, name: str, number: signal.Signals) -> h.Fault | None:
        row = self._messenger.child(name)
        if row is None:
            return None
        t = time.monotonic()
        self._messenger.send(row, number)
        return self._fault(t, kind, f"pid {row.pid}")

    async def _kill_namespace(self) -> h.Fault | None:
        return self._child("kill-namespace", "namespace", signal.SIGKILL)

    async def _kill_raylet(self) -> h.Fault | None:
        row = self._messenger.descendant("raylet")
        if row is None:
            return None
        t = time.monotonic()
        self._messenger.send(row, signal.SIGKILL)
        return self._fault(t, "kill-raylet", f"pid {row.pid}")

    async def _kill_valkey(self) -> h.Fault | None:
        return self._child("kill-valkey", "valkey", signal.SIGKILL)

    async def _term_valkey(self) -> h.Fault | None:
        return self._child("term-valkey", "valkey", signal.SIGTERM)

    async def _stop_valkey(self) -> h.Fault | None:
        row = self._messenger.child("valkey")
        if row is None:
            return None
        t = time.monotonic()
        seconds = self._rng.uniform(*STOP_VALKEY_S)
        self._messenger.send(row, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._messenger.send(row, signal.SIGCONT)
        return self._fault(t, "stop-valkey", f"{seconds:.1f} s")

    # Clients.

    async def _quiet(self) -> h.Fault | None:
        """Long enough for rooms to fall asleep; then everyone talks at once."""
        t = time.monotonic()
        self._population.talking.clear()
        await asyncio.sleep(self._hibernate_after + self._rng.uniform(0.3, 2.5))
        awake = await self._messenger.awake()
        self._population.talking.set()
        rooms = sum(name.startswith("room:") for name in awake)
        return self._fault(t, "quiet", f"{rooms} rooms awake after it")

    async def _stall(self) -> h.Fault | None:
        t = time.monotonic()
        for each in self._population.idlers:
            each.stalled.clear()
        await asyncio.sleep(self._rng.uniform(3.0, 6.0))
        for each in self._population.idlers:
            each.stalled.set()
        return self._fault(t, "stall-readers", f"{len(self._population.idlers)}")

    async def _drop(self) -> h.Fault | None:
        here = [each for each in self._population if each.connected.is_set()]
        # Many, so that the sockets spread over the gateways again.
        chosen = self._rng.sample(here, len(here) // 3)
        t = time.monotonic()
        ends = []
        for each in chosen:
            end = each.drop(
                abort=self._rng.random() < 0.5,
                pause_s=self._rng.uniform(0.0, 3.0),
                forget=self._rng.random() < 0.25,
            )
            ends.append(end)
        await asyncio.gather(*ends)
        return self._fault(t, "drop-clients", f"{len(chosen)} sockets")
