"""One incarnation of an object in memory: the shell around a pure machine.

It takes an epoch, loads mirror and log, feeds events in, holds what they cause behind
the output gate, keeps the one alarm, and goes to sleep (design.md §3). It owns no
socket and no connection to Valkey: its `Surroundings` do. Rules of the product belong
in the machines; rules of being alone, durable and ordered belong here.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

from actors.faults import Faults, answer, answer_attach
from actors.gates import OutputGate, Step
from actors.kinds import ROOM, Machine, kind_of
from actors.load import Load
from actors.loading import NOTHING, Floor, load
from actors.release import Peer, Release, Seat, Seating
from actors.surroundings import Surroundings
from actors.thinking import Thinking
from cfmessenger import effects as fx
from cfmessenger import link
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.errors import Unavailable
from cfmessenger.ids import process_of
from cfmessenger.storage.log import Commit, Fenced

logger = logging.getLogger("cfmessenger.activation")

LIVE_MIRROR_EVERY_S = 5.0
SETTLE_S = 1.0
SOON_MS = 50
"""What is due by then is waited for before a room moves."""

COMPLETE_AFTER_S = 5.0
"""So long after a crash who holds sockets here may not have come back yet."""

CALLS = 6
"""Ticks for which gateways of the mirror are called, and what passes is kept."""


class State(enum.Enum):
    """Where in its life an activation is. Only RUNNING takes events (input gate)."""

    STARTING = "starting"
    RUNNING = "running"
    CLOSING = "closing"
    GONE = "gone"


class Activation:
    """A living object: `start` it, let it `receive`, `hibernate` it.

    `surroundings.gone(activation, reason)` is called exactly once, when it has ended.
    """

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.state = State.STARTING
        self.seats: dict[str, Seat] = {}
        self._around = around
        bots = around.mind.bots if around.mind is not None else None
        self._kind = kind_of(name, around.rules, bots)
        self._machine: Machine = self._kind.fresh()
        self._gate: OutputGate[Seat] = OutputGate()
        self._release = Release(self.seats, self._elsewhere)
        self._waiting: list[tuple[Peer, link.Attach | link.Inputs]] = []
        self._touched_at = self._mirrored_at = around.loop.time()
        self.load = Load(self._touched_at)
        self._loaded_at = 0.0
        self._flush_due = False
        self._calls = 0
        self._parting = False  # takes nothing more, shows what it took
        self._faulty = False  # likewise: the machine raised, so then it is dropped
        self._doubting = False  # likewise: is it the past, or did storage lose some?
        self._floor = NOTHING  # what the next load is told; set by a doubt
        self._faults = Faults()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thinking: Thinking | None = None

    @property
    def epoch(self) -> int:
        """The fencing token of this incarnation; 0 until it has one."""
        return self._machine.epoch

    @property
    def seq(self) -> int:
        """The number of the newest event, confirmed or not."""
        return self._machine.seq

    @property
    def sockets(self) -> int:
        """Connections in its roster."""
        return self._machine.sockets

    def lived_s(self, now_s: float) -> float:
        """Seconds (loop time) awake, with sockets; 0 without."""
        awake = self.state is State.RUNNING and self.sockets
        return now_s - self._loaded_at if awake else 0.0

    def idle_for(self, now_s: float) -> float:
        """Seconds (loop time) without an event; 0 while anything is pending."""
        busy = not self._gate.idle or self._machine.alarm_at is not None
        busy = busy or (self._thinking is not None and self._thinking.busy)
        return 0.0 if busy or self._waiting else now_s - self._touched_at

    # Birth, and rebirth after a reset.

    def start(self) -> None:
        """Take an epoch and load; what is received meanwhile waits."""
        self._spawn(self._start(0.0))

    async def _start(self, pause_s: float) -> None:
        floor, self._floor = self._floor, NOTHING
        if pause_s:
            await asyncio.sleep(pause_s)
            if self.state is not State.STARTING:
                return
        try:
            machine = await load(
                self.name, self._kind, self._around.loads, self._around.clock, floor
            )
            dead = await self._dead(machine.gateways)
            # Who held sockets at the end of a life that was cut short nobody knows.
            lost = await self._around.derived.everyone() if machine.crashed else set()
        except Fenced:
            self._end("duplicate_activation")
            return
        except Unavailable:
            # Never raised further: whoever speaks next simply tries again.
            self._end("storage_failed")
            return
        except Exception:
            logger.exception("%s cannot be loaded", self.name)
            self._end("storage_failed")
            return
        if self.state is not State.STARTING:
            return
        self._machine = machine
        self._loaded_at = self._around.loop.time()
        self._release.shown = machine.seq
        self.state = State.RUNNING
        waiting, self._waiting = self._waiting, []
        machine.absent -= dead
        self._release.call(machine.absent)
        for peer, message in waiting:
            self.receive(peer, message)
        for gateway in dead:
            self.bury(gateway)  # behind those, so that whoever came sees them leave
        self._calls = CALLS
        self.call_absent()
        if lost := lost - machine.absent - self.seats.keys():
            self._around.derived.call_gateways(lost, self.name)
        self._set_alarm()

    def call_absent(self) -> None:
        """Tell who held sockets here and has not come back; a channel forgets."""
        if self.state is not State.RUNNING or not self._calls:
            return
        self._calls -= 1
        absent = self._machine.absent - self.seats.keys()
        if absent and self._calls:
            self._around.derived.call_gateways(absent, self.name)
        else:
            self._calls = 0
            self._release.call(())

    async def _dead(self, gateways: set[str]) -> set[str]:
        """Who of the mirror's gateways was given up while the object slept."""
        try:
            return gateways - await self._around.derived.living(gateways)
        except Unavailable:
            return set()  # the next look will tell

    @property
    def gateways(self) -> set[str]:
        """Whose sockets are in the roster."""
        return self._machine.gateways

    def _reset(self, reason: str = "reset", pause_s: float = 0.0) -> None:
        """An append was refused or its outcome is unknown (design.md §3.5); or the
        machine failed (`fault`), or storage lost what was shown (`damage`).

        Machine and held effects are dropped, a new epoch settles what became of the
        append, and the gateways bring back what is not covered.
        """
        logger.warning("%s resets, %s, epoch %d", self.name, reason, self.epoch)
        self._forget_thoughts()
        self._gate.drop()
        self._release.call(())
        self._goodbye(reason)
        self.seats.clear()
        self._waiting.clear()
        self._parting = self._faulty = self._doubting = False
        self.state = State.STARTING
        self._machine = self._kind.fresh()
        self._spawn(self._start(pause_s))

    # The machine's faults.

    def _fault(self, step: Step[Seat], what: str) -> None:
        """The machine raised (faults.py). What it may have half done is dropped with
        it, but first everything that it was given before is shown; `step` answers and
        covers the input. Called in an `except` block.
        """
        self._faults.count(self._around.loop.time())
        logger.exception("%s fails at %s", self.name, what)
        self._faulty = True
        self._forget_thoughts()
        self._gate.hold(step)
        self._flush_soon()

    def _recover(self) -> None:
        """Everything that came before the fault is shown: begin anew, or end."""
        if self._faults.too_many:
            logger.error("%s fails too often", self.name)
            self._end("failed")
        else:
            self._reset("fault", self._faults.pause_s)

    # Events.

    @property
    def _open(self) -> bool:
        """The input gate is."""
        shut = self._parting or self._faulty or self._doubting
        return self.state is State.RUNNING and not shut

    def receive(self, peer: Peer, message: link.Attach | link.Inputs) -> None:
        """Take a gateway's message, or keep it until the input gate opens.

        While closing it never opens again: who waits is told goodbye like the others,
        and brings what is not covered to the next activation.
        """
        if self.state is State.GONE:  # by one of those that waited with this one
            goodbye = link.Goodbye(
                self.name, 0, 0, "duplicate_activation", message.turn
            )
            peer.send(goodbye)
            return
        if not self._open:
            self._waiting.append((peer, message))
            return
        self._touched_at = self._around.loop.time()
        if isinstance(message, link.Attach):
            self._attach(peer, message)
        else:
            self._take(peer, message)
        self._flush_soon()

    def _attach(self, peer: Peer, message: link.Attach) -> None:
        seat = self.seats.get(peer.gateway)
        if seat is not None and message.turn < seat.turn:
            return  # late, over a link that the gateway has given up
        if message.epoch > self.epoch or message.seq > self._machine.seq:
            # It has seen what we do not know of.
            self._waiting.append((peer, message))
            self._doubting = True
            self._spawn(self._doubt(Floor(self.epoch, message.epoch, message.seq)))
            return
        try:
            self._seat(peer, message)
        except Exception:
            self._waiting.append((peer, message))  # it may not have got a seat
            fresh, now = self._kind.fresh, self._around.clock.now()
            effects = answer_attach(fresh, now, peer.gateway, message.sockets)
            self._fault(Step(effects, None, 0), "an attach")

    def _seat(self, peer: Peer, message: link.Attach) -> None:
        machine, now = self._machine, self._around.clock.now()
        missed = machine.events_after(message.seq) if message.seq >= 0 else []
        if missed is None:
            self.seats.pop(peer.gateway, None)
            turn = message.turn
            peer.send(link.Goodbye(self.name, machine.epoch, 0, "behind", turn))
            return
        seat = Seat(peer, message.covered, message.replay, message.turn)
        self.seats[peer.gateway] = seat
        seating = Seating(seat, tuple(missed), machine.seq)
        if message.rested != machine.previous_epoch:
            machine.missed(peer.gateway)
        effects = machine.attach(now, peer.gateway, message.sockets)
        self._gate.hold(Step((seating, *effects), None, 0))

    async def _doubt(self, floor: Floor) -> None:
        """Whoever lived later than we do knows more, and has taken an epoch for it; if
        nobody has, storage has lost what was shown, and numbers go on above that."""
        try:
            newest = await self._around.loads.epoch(self.name)
        except Unavailable:
            self._end("storage_failed")
            return
        if self.state is not State.RUNNING or self.epoch != floor.own_epoch:
            return  # it was reset meanwhile, and told them all to attach again
        if newest > self.epoch:
            self.supersede()
        else:
            self._floor = floor
            self._reset("damage")

    def _take(self, peer: Peer, message: link.Inputs) -> None:
        seat = self.seats.get(peer.gateway)
        if seat is None or seat.peer is not peer or seat.turn != message.turn:
            turn = message.turn
            peer.send(link.Goodbye(self.name, self.epoch, 0, "reset", turn))
            return
        machine, now, hold = self._machine, self._around.clock.now(), self._gate.hold
        said, process = link.Said, process_of(peer.gateway)
        for entry in message.inputs:
            n, seen = entry.n, 0
            try:
                if type(entry) is said:
                    seen = entry.seen
                    fresh_id = f"{process}.{n}"
                    effects = machine.message(now, entry.conn, entry.data, fresh_id)
                elif type(entry) is link.Opened:
                    effects = machine.connect(
                        now, entry.attachment, entry.since, entry.greeted
                    )
                elif type(entry) is link.Closed:
                    effects = machine.close(now, entry.conn)
                elif type(entry) is link.Changed:
                    effects = machine.change(now, entry.attachment)
                else:
                    assert type(entry) is link.Notified
                    effects = machine.notify(now, entry.data) if entry.data else []
            except Exception:
                self._fault(Step(answer(entry), seat, n), f"a {type(entry).__name__}")
                return  # what is behind it comes again
            hold(Step(effects, seat, n, seen))

    def leave(self, peer: Peer) -> None:
        """A link broke. Its sockets may well live on, so nobody has left the room."""
        self._waiting = [entry for entry in self._waiting if entry[0] is not peer]
        seat = self.seats.get(peer.gateway)
        if seat is not None and seat.peer is peer:
            del self.seats[peer.gateway]

    def bury(self, gateway: str) -> None:
        """A gateway is dead for certain: its sockets leave."""
        seat = self.seats.pop(gateway, None)
        if seat is not None:
            # Not as dead as that, perhaps: then it must know that it is not seated.
            covered, turn = seat.covered, seat.turn
            seat.peer.send(link.Goodbye(self.name, self.epoch, covered, "reset", turn))
        if self.state is State.RUNNING and not self._faulty:
            self._do("a detach", lambda now: self._machine.detach(now, gateway))

    def _do(self, what: str, verb: Callable[[int], list[fx.Effect]]) -> None:
        """Something that no gateway's input caused."""
        try:
            effects = verb(self._around.clock.now())
        except Exception:
            self._fault(Step((), None, 0), what)
        else:
            self._gate.hold(Step(effects, None, 0))
            self._flush_soon()

    # The way out.

    def _flush_soon(self) -> None:
        """Once per turn of the loop, so that all that arrived together goes
        together."""
        if not self._flush_due:
            self._flush_due = True
            self._around.loop.call_soon(self._timed, self._flush)

    def _timed(self, work: Callable[[], None]) -> None:
        began = perf_counter()
        work()
        self.load.took(perf_counter() - began)

    def _flush(self) -> None:
        self._flush_due = False
        if self.state is not State.RUNNING or self._gate.flying:
            return
        # Who cannot be sure to be the only one shows nothing (design.md §3, Fencing);
        # an append needs no trust, it is refused.
        if not self._gate.idle and (self._around.trusted() or self._gate.appends):
            events = self._gate.take_off()
            if events:
                self._around.reached("before_append")
                commit = Commit(self.name, self.epoch, events)
                self._around.committer.add(commit, self._committed)
            else:
                self._show()
        if self._faulty and self._gate.idle:
            self._recover()
        self._set_alarm()

    def _show(self) -> None:
        """Release what has landed. A bug in it must not lose what it half showed: none
        of that half is sent, and what it would have covered comes again."""
        try:
            self._release.run(self.name, self.epoch, self._gate.land())
        except Exception:
            for seat in self.seats.values():
                seat.covered, seat.items = seat.told, []
            self._release = Release(self.seats, self._elsewhere)
            self._fault(Step((), None, 0), "showing what happened")

    def _committed(self, commit: Commit, problem: Exception | None) -> None:
        if self.state is not State.RUNNING or commit.epoch != self.epoch:
            return  # of an incarnation that was reset meanwhile
        if problem is None:
            self._around.reached("after_append")
            self._timed(self._shown)
        elif isinstance(problem, Fenced):
            self._end("duplicate_activation")
        else:
            self._reset()

    def _shown(self) -> None:
        self._show()
        self._flush()

    def _elsewhere(self, effect: fx.Effect, gateway: str | None) -> None:
        derived = self._around.derived
        if type(effect) is fx.Record:
            derived.record(effect, gateway)
        elif type(effect) is fx.Touch:
            derived.touch(self.name, effect.users, effect.timestamp)
        elif type(effect) is fx.Read:
            derived.read(self.name, effect.user_id, effect.seq)
        elif type(effect) is fx.Count:
            derived.count(effect.day, effect.bot_id, effect.figure, effect.amount)
        elif type(effect) is fx.Spent:
            derived.spent(effect.day, effect.user_id, effect.count)
        elif type(effect) is fx.Active:
            derived.activate_bots(effect.bot_ids, effect.line)
        elif type(effect) is fx.Think:
            self._think(effect, gateway)
        else:
            raise AssertionError(f"unknown effect {type(effect).__name__}")

    # Thinking, which a director does.

    def _think(self, think: fx.Think, gateway: str | None) -> None:
        around = self._around
        assert around.mind is not None, "a director without bots"
        if self._thinking is None:
            self._thinking = Thinking(
                around.mind,
                around.derived.bots_enabled,
                around.clock,
                self._typing,
                self._answered,
            )
        if gateway is not None:
            self._release.route(f"room:{think.question.room_id}", gateway)
        self._thinking.begin(think.question, think.excuse)

    def _answered(self, question: Question, answer: Answer) -> None:
        now = self._around.clock.now()
        answered = fx.Answered(
            question.room_id,
            question.seq,
            question.bot_id,
            answer,
            max(0, now - question.timestamp),
        )
        if self._open:
            self._touched_at = self._around.loop.time()
            told = fx.encode_notification(answered)
            self._do("an answer", lambda now: self._machine.notify(now, told))

    def _typing(self, typing: fx.Effect) -> None:
        if self._open:
            self._gate.hold(Step((typing,), None, 0))
            self._flush_soon()

    def _forget_thoughts(self) -> None:
        if self._thinking is not None:
            self._thinking.cancel()

    # The alarm.

    def _set_alarm(self) -> None:
        due = self._machine.alarm_at
        if due is None or due == self._timer_at:
            return  # a timer for nothing is harmless: `_ring` looks again
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, due - self._around.clock.now()) / 1000
        self._timer_at = due
        self._timer = self._around.loop.call_later(delay, self._timed, self._ring)

    def _ring(self) -> None:
        self._timer = self._timer_at = None
        due = self._machine.alarm_at
        if self.state is not State.RUNNING or self._faulty:
            return
        if due is not None and due <= self._around.clock.now():
            self._do("an alarm", self._machine.alarm)
        else:
            self._set_alarm()

    # Sleep, and the end.

    async def hibernate(self, reason: str = "idle") -> bool:
        """Write the mirror, say goodbye, be gone. False if it stays for now.

        Refuses while anything is unconfirmed, unless it is to shut down or move: then
        it takes nothing more, and what is not covered stays with the gateways.
        """
        if self.state is not State.RUNNING:
            return False
        if not self._at_rest(reason):
            if reason == "idle":
                return False
            self._parting = True
            self._forget_thoughts()
            if not await self._settled(reason):
                return False
            if not self._gate.idle:
                # A mirror must hold nothing that is not confirmed: none, then.
                self._end("storage_failed")
                return True
        self.state = State.CLOSING
        self._forget_thoughts()
        try:
            data = self._machine.snapshot()
            self._around.reached("before_mirror")
            final = reason == "idle" or self._complete
            # A room that nobody is in and nothing was ever said in leaves its epoch.
            room, left = self.name.startswith(ROOM), self._machine
            empty = room and not left.seq and not left.sockets
            await self._around.log.save(
                self.name, self.epoch, data, final=final, empty=empty
            )
            self._around.reached("after_mirror")
        except Fenced:
            reason = "duplicate_activation"
        except Unavailable:
            # Whether the mirror is there is unknown. A new epoch makes it untrusted.
            if reason == "idle":
                self._reset()
                return False
            reason = "storage_failed"
        except Exception:
            logger.exception("%s cannot be mirrored, the log is left", self.name)
        self._end(reason)
        return True

    @property
    def _complete(self) -> bool:
        """The roster is one to remember: not all are back so soon after a crash, and
        who comes later must not seem to join."""
        lived = self._around.loop.time() - self._loaded_at
        return not self._machine.crashed or lived >= COMPLETE_AFTER_S

    def _at_rest(self, reason: str) -> bool:
        """Nothing is unconfirmed; nor, if it moves, about to be told: silent sockets do
        not come back for a list of people."""
        alarm_at = self._machine.alarm_at
        if reason == "moved" and alarm_at is not None:
            return self._gate.idle and alarm_at > self._around.clock.now() + SOON_MS
        return self._gate.idle

    async def _settled(self, reason: str) -> bool:
        """It is at rest, or there is no more time to wait for it.

        False if the object was reset or has ended meanwhile.
        """
        loop = self._around.loop
        end = loop.time() + SETTLE_S
        while not self._at_rest(reason) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.state is State.RUNNING

    def receipts_due(self, now_s: float) -> bool:
        """Receipts changed, and the last live mirror is 5 s old (design.md §5)."""
        changed = self._machine.receipts_changed and self._gate.idle
        rested = now_s - self._mirrored_at >= LIVE_MIRROR_EVERY_S
        return changed and rested and self.state is State.RUNNING

    async def mirror_receipts(self) -> None:
        """Save a live mirror, if it is due."""
        now_s = self._around.loop.time()
        if not self.receipts_due(now_s):
            return
        self._mirrored_at = now_s
        self._machine.receipts_changed = False
        try:
            data = self._machine.snapshot()
            await self._around.log.save(self.name, self.epoch, data, final=False)
        except Fenced:
            self._end("duplicate_activation")
        except Unavailable:
            self._machine.receipts_changed = True
        except Exception:
            logger.exception("%s cannot be mirrored", self.name)

    def trust_again(self) -> None:
        """Storage answers: what was held back may be shown."""
        if not self._gate.idle:
            self._flush_soon()

    def give_up(self) -> None:
        """Storage cannot be reached from here: leave it to whoever can."""
        if self.state is not State.GONE:
            self._end("storage_failed")

    def supersede(self) -> None:
        """A higher epoch exists: show nothing more."""
        self._end("duplicate_activation")

    def vanish(self) -> None:
        """Be dead at once, for a process that plays its own death."""
        self.state = State.GONE
        self._forget_thoughts()
        self._gate.drop()
        self.seats.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _goodbye(self, reason: str) -> None:
        for seat in self.seats.values():
            goodbye = link.Goodbye(
                self.name, self.epoch, seat.covered, reason, seat.turn
            )
            seat.peer.send(goodbye)
        seated = {(seat.peer, seat.turn) for seat in self.seats.values()}
        waiting = {(peer, message.turn) for peer, message in self._waiting}
        for peer, turn in waiting - seated:
            # Epoch 0: nothing was done for them here, whatever the reason to leave.
            peer.send(link.Goodbye(self.name, 0, 0, reason, turn))

    def _end(self, reason: str) -> None:
        if self.state is State.GONE:
            return
        self._goodbye(reason)
        self.state = State.GONE
        self._forget_thoughts()
        self.seats.clear()
        self._waiting.clear()
        self._gate.drop()
        if self._timer is not None:
            self._timer.cancel()
        logger.info(
            "%s gone, %s, epoch %d, seq %d", self.name, reason, self.epoch, self.seq
        )
        self._around.gone(self, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
