"""One world: everything that a seed decides, from its first connection to the verdict.

`run(seed)` makes gateways, hosts, a Valkey and people, lets things go wrong for a while
(`faults`), heals all, waits until everyone has seen everything, and returns the history
for the checker. The same seed gives the same world, to the last byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import msgspec

import actors.loading
import cfmessenger.chat.history
import cfmessenger.link.arrivals
import cfmessenger.placement
import gateway.live.paging
from actors.activation import Activation, State
from actors.ownership import TRUST_S
from cfmessenger.data.names import LOOK_AGAIN_S
from cfmessenger.ids import PRESENCE
from cfmessenger.storage import keys
from tests.system.sim.checker import Violation, check
from tests.system.sim.fake_valkey import URL, FakeValkey
from tests.system.sim.faults import Faults
from tests.system.sim.gaze import Gaze
from tests.system.sim.history import (
    CHAT,
    KNOCK,
    LATER,
    Gone,
    Heard,
    History,
    Logged,
    Online,
    Owed,
    Refused,
)
from tests.system.sim.names import Rows
from tests.system.sim.namespace import FakeNamespace, NamespaceServer
from tests.system.sim.network import Network
from tests.system.sim.plan import UP_WITHIN_S, Plan
from tests.system.sim.processes import (
    PLENTY,
    Bug,
    GatewayProcess,
    SimHost,
    frames_in,
    messages_in,
    replaced,
)
from tests.system.sim.shown import shown
from tests.system.sim.sim_loop import EPOCH_MS, PROCESS, Process, SimLoop, Stuck
from tests.system.sim.workload import Person, Tab

HEALED_S = 60.0
ASKED_S = 10.0
"""What was asked for over HTTP is done by then, or refused."""

AGREED_S = LOOK_AGAIN_S + 5.0
"""Whoever was not told of a changed row looks for itself once a minute."""

PROBE_S = 20.0
CALM_S = 6.0
FOLLOWED_S = 5.0
"""After so long everybody has heard of a generation and moved: a read that runs into
its deadline (2 s), a room that is being loaded meanwhile, and the next two ticks."""

OUTLIVED_S = 45.0
"""No exception outlives its room by more: what it said of its load is forgotten (10 s)
and it is no new one any more (`NEW_MS`)."""

LOADED_S = 20.0
"""A long log without a mirror, a few entries at a time and over a slow network."""

GAZED_S = 0.15
"""Less than it takes to fall asleep."""

AWAKE_EVERY_S = 0.15
SPEAKS_S = 0.1
"""Who looked for the last time just before somebody took over is believed `TRUST_S`."""

LOOK_EVERY_S = 0.25

LATE = "cfmessenger.late"
"""Here a gateway says that the log did not tell what became of inputs."""


class Result(NamedTuple):
    """What became of a seed."""

    seed: int
    plan: Plan
    violations: list[Violation]
    history: History
    trace: list[str]
    callbacks: int
    faults: dict[str, int]
    settled_s: float


class World:
    """Everything there is."""

    def __init__(self, seed: int, plan: Plan, tracing: bool) -> None:
        self.seed = seed
        self.plan = plan
        self.tracing = tracing
        self.trace: list[str] = []
        self.rng = Random(seed)
        self.loop = SimLoop()
        self.network = Network(self.loop, self.rng)
        self.network.base_s, self.network.spikes_s = plan.base_s, plan.spikes_s
        self.clients = Process("clients")
        self.valkey = FakeValkey(self.network, self.rng)
        self.valkey.fsync_s = plan.fsync_s
        self.valkey.lags_s, self.valkey.replicas = plan.lags_s, int(plan.lags_s > 0)
        self.namespace = FakeNamespace(self)
        self.rows = Rows()
        self.gateways: list[GatewayProcess] = []
        self.history = History(plan.chat_rate, plan.nudge_rate, plan.crowd.above)
        self.faults = Faults(self)
        self.healed = False
        self.settled_s = 0.0
        self.memory = PLENTY  # of the machine that all processes are on
        self.tabs: list[Tab] = []
        self.gazes: list[Gaze] = []
        replicas = f"?replicas={plan.awaited}" if plan.awaited else ""
        self.url = f"{URL}{replicas}"  # by which the product reaches it
        self._numbers: dict[str, itertools.count[int]] = defaultdict(
            lambda: itertools.count(1)
        )
        self._decoded: dict[bytes, Any] = {}
        self._inspected: set[bytes] = set()
        self._armed: str = ""

    # What its inhabitants ask for.

    def number(self, what: str) -> int:
        return next(self._numbers[what])

    def next_serial(self) -> int:
        return self.number("serial")

    def note(self, text: str, *args: object) -> None:
        """A line of the trace."""
        if self.tracing:
            self.trace.append(f"{self.loop.time():9.4f} {text % args}")

    def decoded(self, payload: bytes) -> Any:
        """A frame's JSON; many see the same bytes."""
        frame = self._decoded.get(payload)
        if frame is None:
            frame = self._decoded[payload] = msgspec.json.decode(payload)
        return frame

    def some_gateway(self) -> str | None:
        """Where a client connects to: a load balancer knows who is ready."""
        ready = [g.name for g in self.living_gateways if g.ready and not g.draining]
        return self.rng.choice(ready) if ready else None

    @property
    def living_gateways(self) -> list[GatewayProcess]:
        return [each for each in self.gateways if each.process.alive]

    def inspect(self, blob: bytes) -> None:
        """A gateway shows this to a client: is it in the log for good?"""
        if blob in self._inspected:
            return
        for message in messages_in(blob, self.decoded):
            key = message["roomId"], message["senderId"], message["id"]
            self.history.shown.setdefault(key, Heard(self.loop.time(), message))
            if not self._kept(message):
                said = f"{message['roomId']} {message['seq']} ({message['id']})"
                text = f"{said} was shown at {self.loop.time():.4f}"
                self.history.early.append(text)
        self._inspected.add(blob)

    def refuses(self, blob: bytes, room: str, user: str) -> None:
        """A gateway tells a client that something was not confirmed, perhaps."""
        at = self.loop.time()
        for frame in frames_in(blob, self.decoded):
            if frame.get("code") == "STORAGE_UNAVAILABLE" and "id" in frame:
                self.history.refusals.append(Refused(at, room, user, frame["id"]))

    def _kept(self, message: dict[str, Any]) -> bool:
        stream = self.valkey.streams.get(_log_key(f"room:{message['roomId']}"))
        found = stream.items if stream is not None else []
        if any(
            item.id[1] == message["seq"]
            and item.operation <= self.valkey.on_disk
            and (not self.plan.awaited or self.valkey.replicated(item.operation))
            for item in reversed(found)
        ):
            return True
        # Under way from before a failover.
        return (message["roomId"], message["seq"], message["id"]) in {
            (room, seq, said["id"])
            for key, seq, event in self.valkey.once
            for said in [self.decoded(event)]
            for room in [said.get("roomId")]
            if key == _log_key(f"room:{room}")
        }

    # Death.

    def kill(self, process: Process, why: str) -> None:
        """As `kill -9`."""
        if process.alive:
            self.note("%s dies: %s", process, why)
            process.alive = False
            self.network.died(process)

    def dies_at(self, process: Process, point: str) -> bool:
        """Whether a process dies at a point that it has just reached."""
        if point != self._armed:
            return False
        self._armed = ""
        self.kill(process, point)
        return True

    def arm(self, point: str) -> None:
        self._armed = point

    # Its course.

    async def live(self) -> None:
        plan, rng = self.plan, self.rng
        self.valkey.start()
        if plan.said_before:
            for room in plan.rooms:
                said = range(1, plan.said_before + 1)
                events = [_said_before(room, seq) for seq in said]
                self.valkey.fill(_log_key(f"room:{room}"), events)
        tasks = [
            self.loop.create_task(self._keep_gateways()),
            self.loop.create_task(self._keep_namespace()),
        ]
        for n in range(plan.people):
            person = Person(f"user_{n + 1}", rng)
            for _ in range(rng.randint(1, plan.tabs)):
                self.tabs.append(Tab(self, person, rng.choice(plan.rooms)))
        self.gazes += [Gaze(self, f"user_{n + 1}") for n in range(plan.gazes)]
        for each in (*self.tabs, *self.gazes):
            task = self.clients.run(self.loop.create_task, each.live())
            tasks.append(task)
        await asyncio.sleep(1.0)
        await self.faults.happen(plan.chaos_s)
        self.faults.heal()
        self.healed = True
        for each in (*self.tabs, *self.gazes):
            each.quiet = True
        self.note("healed")
        start = self.loop.time()
        if await self._settle(HEALED_S):
            self.settled_s = self.loop.time() - start
            if plan.rename_p:
                await self._agree()
            await self._probe()
            await asyncio.sleep(CALM_S)
            await self._wake_registry()
            await self._bury_exceptions()
            await self._part()
            await self._gaze()
        self._finish()

    async def _keep_gateways(self) -> None:
        while True:
            if len(self.living_gateways) < self.plan.gateways:
                self.gateways.append(GatewayProcess(self))
            await asyncio.sleep(0.3 + self.rng.random())

    async def _keep_namespace(self) -> None:
        namespace = self.namespace
        while True:
            if namespace.server is None or not namespace.server.process.alive:
                namespace.server = NamespaceServer(self)
            await asyncio.sleep(0.3 + self.rng.random())

    async def _settle(self, within_s: float) -> bool:
        end = self.loop.time() + within_s
        while open_ends := self._open_ends():
            if self.loop.time() > end:
                self.history.unsettled += open_ends
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    def _open_ends(self) -> list[str]:
        """What is still to come, once nothing goes wrong any more."""
        found = []
        for tab in self.tabs:
            top = self._top(tab.room)
            if not tab.connected:
                found.append(f"a tab of {tab.person.name} is not connected")
            elif tab.seen < top:
                number = tab.socket.number if tab.socket else 0
                found.append(f"socket {number} is at {tab.seen} of {top}")
        blind = (gaze.user for gaze in self.gazes if not gaze.connected)
        found += [f"{user} does not see who is online" for user in blind]
        for each in self.living_gateways:
            if each.sockets and each.sockets.connections.reserve.full:
                found.append(f"{each.name} still refuses what is said: memory is full")
            for stub in each.sockets.stubs.by_name.values() if each.sockets else ():
                if stub._pending:
                    n = len(stub._pending)
                    found.append(f"{each.name} holds {n} inputs for {stub.name}")
        return found

    def _top(self, room: str) -> int:
        stream = self.valkey.streams.get(_log_key(f"room:{room}"))
        return stream.items[-1].id[1] if stream is not None and stream.items else 0

    async def _probe(self) -> None:
        """Everything works: each person is heard, and in the end by whom it should.

        Who was late to move, as a room is that failed again and again or was long in
        being loaded, gets a second time.
        """
        await self._settle_placement()
        followed = self.namespace.generations[-1][0] + FOLLOWED_S
        await asyncio.sleep(max(0.0, followed - self.loop.time()))
        tops = {room: self._top(room) for room in self.plan.rooms}
        if not await self._heard_by_all():
            return
        if self._misplaced(tops, 0.0):
            await self._loaded()
            await self._keep_awake(FOLLOWED_S + UP_WITHIN_S)
            tops = {room: self._top(room) for room in self.plan.rooms}
            if await self._heard_by_all():
                self.history.unsettled += self._misplaced(tops, FOLLOWED_S)

    async def _settle_placement(self) -> None:
        """A generation that was lost in a failover is put back by who knows it."""
        end = self.loop.time() + PROBE_S
        while not self.namespace.generations and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)

    async def _keep_awake(self, seconds: float) -> None:
        """Whoever sleeps begins in the right place: something happens all the time."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            for tab in self.tabs:
                tab._say({"type": "typing", "isTyping": False})
            await asyncio.sleep(AWAKE_EVERY_S)

    async def _heard_by_all(self) -> bool:
        for tab in self.tabs:
            tab.unheard.clear()
        for tab in self.tabs:
            tab._send(CHAT, tab.person.fresh_id())
        end = self.loop.time() + PROBE_S
        while any(tab.unheard for tab in self.tabs):
            if self.loop.time() > end:
                self.history.unsettled.append("nobody answers any more")
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        await self._settle(HEALED_S)
        return True

    def _misplaced(self, tops: dict[str, int], grace_s: float) -> list[str]:
        """Who was heard since, and not where the newest generation says, or one that
        was it so lately that not everybody can have followed the next."""
        wrong: list[str] = []
        namespace = self.namespace
        keys_of = {each.process.name: each.key for each in namespace.living}
        generations = namespace.generations
        ends = [at for at, _ in generations[1:]] + [math.inf]
        for room, top in tops.items():
            if self._top(room) == top:
                continue  # all were too many for the rate
            name = f"room:{room}"
            item = self.valkey.streams[_log_key(name)].items[-1]
            found = keys_of.get(item.writer.name)
            said_ms = msgspec.json.decode(item.fields[1])["timestamp"]
            since = (said_ms - EPOCH_MS) / 1000 - grace_s
            if grace_s and namespace.generation.why(name) is not None:
                since -= UP_WITHIN_S  # it stays until its own actor is up
            meant = {
                generation.actor_of(name)
                for (_, generation), end in zip(generations, ends, strict=True)
                if end > since
            }
            if found is not None and found not in meant:
                wrong.append(f"{room} lives in {found}, not in {meant}")
        return wrong

    async def _agree(self) -> None:
        """Every place that is awake comes to know the same; then the rooms wake."""
        await asyncio.sleep(ASKED_S)
        await self._wake_registry()
        end = self.loop.time() + AGREED_S
        while self.loop.time() < end:
            told = {(each.user, each.what, each.value) for each in shown(self)}
            if len(told) == len({each[:2] for each in told}):
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _wake_registry(self) -> None:
        """Returns when it has just been awake."""
        ready = [each for each in self.living_gateways if each.ready]
        assert ready[0].sockets is not None
        registry = ready[0].sockets.object(PRESENCE)
        done = ready[0].process.run(lambda: registry.notify(b"", once=True))
        await asyncio.wait([done])
        done.exception()  # whether or not it could be: then others will tell

    async def _bury_exceptions(self) -> None:
        """Those that load and life have made end with their rooms."""
        end = self.loop.time() + OUTLIVED_S
        while left := self._orphans():
            if self.loop.time() > end:
                self.history.outlived += left
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _gaze(self) -> None:
        """Ask the registry who is online, as nobody comes or goes any more."""
        end = self.loop.time() + LOADED_S
        while self.gazes and self.loop.time() < end:
            await self._wake_registry()
            await asyncio.sleep(GAZED_S)
            found = [
                activation
                for each in self.namespace.living
                for activation in (each.host.objects.values() if each.host else ())
                if activation.name == PRESENCE and activation.awake
            ]
            if found:
                newest: Any = max(found, key=lambda each: each.epoch)._flow.machine
                shown = newest._watchers.shown.values()
                statuses = {each.id: each.status for each in shown}
                self.history.online = Online(statuses, newest._interests.crowded)
                return
        if self.gazes:
            self.history.unsettled.append("the registry does not wake")

    def _orphans(self) -> list[str]:
        measured = self.namespace.generation.measured()
        awake = {
            name
            for each in self.namespace.living
            if each.host is not None
            for name in each.host.objects
            if name == each.key
        }
        return [name for name in measured if name not in awake]

    async def _part(self) -> None:
        """Whoever is superseded, or moving, or being loaded, gets the time for it."""
        end = self.loop.time() + FOLLOWED_S
        while self._running_twice() and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        if self._starting():
            await self._loaded()
            await asyncio.sleep(CALM_S)  # for what it then has to say

    async def _loaded(self) -> None:
        end = self.loop.time() + LOADED_S
        while self._starting() and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)

    def _starting(self) -> bool:
        hosts = [each.host for each in self.namespace.living if each.host is not None]
        objects = [each for host in hosts for each in host.objects.values()]
        return any(each.state is State.STARTING for each in objects)

    def _running_twice(self) -> dict[str, list[str]]:
        running: dict[str, list[str]] = defaultdict(list)
        for each in self.namespace.living:
            for activation in each.host.objects.values() if each.host else ():
                if activation.awake:
                    running[activation.name].append(each.process.name)
        return {name: hosts for name, hosts in running.items() if len(hosts) > 1}

    def believed(self, host: SimHost, each: Activation) -> None:
        """A host believes itself: is it the only one that may be believed?"""
        if not each.awake:
            return
        stream = self.valkey.streams.get(_log_key(each.name))
        newer = [e for e in stream.begun if e > each.epoch] if stream else []
        if not newer or stream is None or stream.top[0] <= each.epoch:
            return
        since = self.loop.time() - stream.begun[min(newer)]
        if since > TRUST_S + SPEAKS_S:
            text = f"{each.name}: {host.process} may speak in epoch {each.epoch}"
            text += f", {since:.1f} s after {min(newer)} began"
            self.history.two.setdefault((each.name, each.epoch), text)

    def _finish(self) -> None:
        history = self.history
        history.ended_at = self.loop.time()
        history.held = list(shown(self))
        for room in self.plan.rooms:
            stream = self.valkey.streams.get(_log_key(f"room:{room}"))
            history.logs[room] = [
                Logged(*item.id, item.writer.name, msgspec.json.decode(item.fields[1]))
                for item in (stream.items if stream else ())
            ]
            kept = {(e.id[1], e.fields[1]) for e in (stream.items if stream else ())}
            history.gone += [
                Gone(at, room, msgspec.json.decode(event))
                for at, key, seq, event in self.valkey.gone
                if key == _log_key(f"room:{room}") and (seq, event) not in kept
            ]
        alive = {each.process.name for each in self.namespace.living}
        history.ended = {
            entry.writer for log in history.logs.values() for entry in log
        } - alive
        history.owed = [
            Owed(room, process.name, msgspec.json.decode(event))
            for process, room, event in self.faults.owed
            if process.alive
            and self.namespace.registered(process)
            and not self.faults.stood_still(process)
        ]
        for name, hosts in self._running_twice().items():
            history.unsettled.append(f"{name} still lives in {hosts}")


def _said_before(room: str, seq: int) -> bytes:
    """Every other one is of a type that the product does not know."""
    kind, content = (KNOCK, "knocks.") if seq % 2 else (CHAT, "says.")
    fields = {"type": kind, "id": f"before.{seq}", "roomId": room, "senderId": LATER}
    said = {"displayName": "Later", "content": content, "timestamp": EPOCH_MS - 9_999}
    flags = {"isNudge": False, "isWink": False}
    return msgspec.json.encode({**fields, **said, "seq": seq, **flags})


def _log_key(name: str) -> bytes:
    return keys.log(name).encode()


MEMORY_IS_FULL = "Valkey's memory is full: no messages are taken"


class _Records(logging.Handler):
    """What the product logs: errors are failures, everything is trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == LATE:
            self._world.history.blind.append(self._world.loop.time())
        text = record.getMessage().replace(f"pid {os.getpid()}", "its pid")
        self._world.note("%s | %s", PROCESS.get(), text)
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            if isinstance(error, Bug) or text.endswith("fails too often"):
                self._world.faults.count["machine_fails"] += 1
                return
            if text == MEMORY_IS_FULL and self._world.faults.count["valkey_is_full"]:
                return  # as it should be
            if " lost events " in text and self._world.valkey.gone:
                return  # whether that is so the checker judges
            self._world.history.failures.append(f"logged: {text}: {error!r}")


@contextlib.contextmanager
def _heard(world: World) -> Iterator[None]:
    logger = logging.getLogger("cfmessenger")
    before = (logger.level, logger.propagate, logger.handlers[:])
    logger.setLevel(logging.INFO if world.tracing else logging.ERROR)
    logger.propagate = False
    logger.handlers[:] = [_Records(world)]
    late = logging.getLogger(LATE)
    late_before = late.level
    late.setLevel(logging.INFO)
    try:
        yield
    finally:
        late.setLevel(late_before)
        logger.level, logger.propagate = before[:2]
        logger.handlers[:] = before[2]
        logger.setLevel(before[0])


@contextlib.contextmanager
def _tuned(plan: Plan) -> Iterator[None]:
    """Limits so small that a short run reaches them."""
    with contextlib.ExitStack() as stack:
        for where, name, value in (
            (cfmessenger.chat.history, "BUFFER", plan.buffer),
            (gateway.live.paging, "HISTORY_FRAME", plan.page),
            (actors.loading, "PAGE", plan.load_page),
            (cfmessenger.placement, "REST_MS", plan.rest_ms),
            (cfmessenger.link.arrivals, "USUAL", plan.storm),
        ):
            stack.enter_context(mock.patch.object(where, name, value))
        yield


def run(seed: int, *, tracing: bool = False, plan: Plan | None = None) -> Result:
    """Live through a world and judge it."""
    plan = plan or Plan.of(seed)
    collecting = gc.isenabled()
    gc.disable()  # what it finalises, it would do when it likes
    state = random.getstate()
    random.seed(seed)
    try:
        with replaced(), _tuned(plan):
            return _run(seed, plan, tracing)
    finally:
        random.setstate(state)
        if collecting:
            gc.enable()


def _run(seed: int, plan: Plan, tracing: bool) -> Result:
    world = World(seed, plan, tracing)
    history = world.history
    with _heard(world):
        try:
            world.loop.run_until_complete(world.live())
        except Stuck:
            history.failures.append("the world stands still")
        history.failures += world.loop.failures
        callbacks = world.loop.callbacks
        asyncio.events._set_running_loop(None)
        world.loop.dismantle()
    violations = check(history)
    return Result(
        seed,
        plan,
        violations,
        history,
        world.trace,
        callbacks,
        world.faults.count,
        world.settled_s,
    )
