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
from collections.abc import Callable
from time import perf_counter

from actors.attending import Attending
from actors.faults import Faults, answer, answer_attach
from actors.gates import OutputGate, Step
from actors.heat import Heat
from actors.loading import NOTHING, SeenBeyond, load, take
from actors.release import Recipient, Release, Seat, Seating
from actors.surroundings import Surroundings
from cfmessenger.background import Background
from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import BLANK, Life, Machine
from cfmessenger.errors import Unavailable
from cfmessenger.ids import is_room, process_of
from cfmessenger.link import messages as link
from cfmessenger.storage.log import Commit, Fenced

logger = logging.getLogger("cfmessenger.activation")

LIVE_MIRROR_EVERY_S = 5.0
SETTLE_S = 1.0
SOON_MS = 50
"""An alarm that is due within this is waited for before a room moves."""

COMPLETE_AFTER_S = 5.0
"""So long after a crash gateways that hold sockets here may still be on their way."""

CALLS = 6
"""Rounds of `call_absent` after a load: five calls, and in the sixth what was kept
for gateways that did not come is dropped (design.md §3.8)."""


class State(enum.Enum):
    """Where in its life an activation is. Only RUNNING takes events (input gate);
    PARTING it waits to move or shut down, and what it took before is still shown."""

    STARTING = "starting"
    RUNNING = "running"
    PARTING = "parting"
    CLOSING = "closing"
    GONE = "gone"


class Activation:
    """A living object: `start` it, let it `receive`, `hibernate` it.

    `surroundings.gone(activation, reason)` is called exactly once, when it has ended.
    """

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.state = State.STARTING  # again from each reset until it is loaded
        # By gateway: from its attach until its link breaks, it is dead, or a reset.
        self.seats: dict[str, Seat] = {}
        # Loop time when its epoch was asked for, and when it was here: until a look has
        # begun after that, the asking is what shows that nobody lives later.
        self.asked_at = self.taken_at = 0.0
        self._around = around
        self._kind = around.kinds.of(name)
        # Until it is loaded a blank one, with the epoch as soon as that is taken.
        self._machine: Machine = self._kind.fresh(BLANK)
        self._gate: OutputGate[Seat] = OutputGate()
        self._release = Release(self.seats, self._elsewhere)
        # What came while the input gate was shut: until it opens, a reset or the end.
        self._waiting: list[tuple[Recipient, link.Attach | link.Inputs]] = []
        # Loop time of the last event, and of the last live mirror.
        self._touched_at = self._mirrored_at = around.loop.time()
        self.heat = Heat(self._touched_at)
        self._loaded_at = 0.0  # loop time of the last load
        self._flush_due = False  # from `_flush_soon` until `_flush`
        self._calls = 0  # rounds of `call_absent` that are left; CALLS after a load
        # While one of these is set the input gate is shut, and what was taken before is
        # still shown. A reset or the end clears them.
        self._faulty = False  # from a fault: the machine raised, and is dropped
        self._doubting = False  # from an attach that has seen more than we know
        self._beyond = NOTHING  # what the next load is told; from a doubt until then
        self._faults = Faults()
        # The alarm's timer and when it rings (ms), from `_set_alarm` until `_ring`.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._background = Background()  # loads and doubts under way
        self._attending = Attending(self._kind, around.derived, around.clock, self)

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
        awake = self.awake and self.sockets
        return now_s - self._loaded_at if awake else 0.0

    def idle_for(self, now_s: float) -> float:
        """Seconds (loop time) without an event; 0 while anything is pending."""
        busy = not self._gate.idle or self._machine.alarm_at is not None
        busy = busy or self._attending.busy
        return 0.0 if busy or self._waiting else now_s - self._touched_at

    # Birth, and rebirth after a reset.

    def start(self) -> None:
        """Take an epoch and load; what is received meanwhile waits."""
        self._background.begin(self._start(0.0))

    async def _start(self, pause_s: float) -> None:
        beyond, self._beyond = self._beyond, NOTHING
        if pause_s:
            await asyncio.sleep(pause_s)
            if self.state is not State.STARTING:
                return
        loop, loads = self._around.loop, self._around.loads
        try:
            self.asked_at = loop.time()
            found = await take(self.name, loads, beyond)
            # From here on the host's looks compare it, however long the load takes.
            self.taken_at = loop.time()
            self._machine = self._kind.fresh(Life(found.epoch))
            clock = self._around.clock
            machine = await load(self.name, self._kind, loads, clock, found)
            dead = await self._dead(machine.gateways)
            # After a crash nobody knows who held sockets at the end: all are called.
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
        logger.info("%s active, epoch %d, seq %d", self.name, self.epoch, self.seq)
        self._loaded_at = loop.time()
        self._release.shown = machine.seq
        self.state = State.RUNNING
        waiting, self._waiting = self._waiting, []
        machine.absent.difference_update(dead)
        self._release.call(machine.absent)
        for peer, message in waiting:
            self.receive(peer, message)
        for gateway in dead:
            self.bury(gateway)  # after the attaches, so that those see it leave
        self._calls = CALLS
        self.call_absent()
        if lost := lost - machine.absent - self.seats.keys():
            self._around.derived.call_gateways(lost, self.name)
        self._set_alarm()

    def call_absent(self) -> None:
        """Call the mirror's gateways that have not come back (design.md §3.8).

        At a load and then twice a second, at most `CALLS` rounds in all: a channel
        forgets.
        """
        if not self.awake or not self._calls:
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
        self._attending.cancel()
        self._gate.drop()
        self._release.call(())
        self._goodbye(reason)
        self.seats.clear()
        self._waiting.clear()
        self._faulty = self._doubting = False
        self.state = State.STARTING
        self._machine = self._kind.fresh(BLANK)
        self._background.begin(self._start(pause_s))

    # The machine's faults.

    def _fault(self, step: Step[Seat], what: str) -> None:
        """The machine raised (faults.py). It is dropped with what it half did, after
        the effects of all earlier inputs were shown. `step` answers and covers the
        input at which it raised. Called in an `except` block.
        """
        self._faults.count(self._around.loop.time())
        logger.exception("%s fails at %s", self.name, what)
        self._faulty = True
        self._attending.cancel()
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
    def awake(self) -> bool:
        """Loaded, and not asleep or about to be: what it holds may be shown."""
        return self.state is State.RUNNING or self.state is State.PARTING

    @property
    def _open(self) -> bool:
        """Whether the input gate is open."""
        shut = self._faulty or self._doubting
        return self.state is State.RUNNING and not shut

    def receive(self, peer: Recipient, message: link.Attach | link.Inputs) -> None:
        """Take a gateway's message, or keep it until the input gate opens.

        While closing it never opens again: a gateway that waits is told goodbye like
        the others, and brings what is not covered to the next activation.
        """
        if self.state is State.GONE:  # it ended before this one's turn came
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
            self._take_inputs(peer, message)
        self._flush_soon()

    def _attach(self, peer: Recipient, message: link.Attach) -> None:
        seat = self.seats.get(peer.gateway)
        if seat is not None and message.turn < seat.turn:
            return  # late, over a link that the gateway has given up
        if message.epoch > self.epoch or (message.seq or 0) > self._machine.seq:
            # The gateway has seen more than we know.
            self._waiting.append((peer, message))
            self._doubting = True
            beyond = SeenBeyond(self.epoch, message.epoch, message.seq or 0)
            self._background.begin(self._doubt(beyond))
            return
        try:
            self._seat(peer, message)
        except Exception:
            self._waiting.append((peer, message))  # it may not have got a seat
            fresh, now = self._kind.fresh, self._around.clock.now()
            effects = answer_attach(fresh, now, peer.gateway, message.sockets)
            self._fault(Step(effects, None, 0), "an attach")

    def _seat(self, peer: Recipient, message: link.Attach) -> None:
        machine, now = self._machine, self._around.clock.now()
        seq = message.seq
        missed = [] if seq is None else machine.events_after(seq)
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

    async def _doubt(self, beyond: SeenBeyond) -> None:
        """A gateway has seen more than we know (design.md §3.2). If the log has a newer
        epoch we are superseded; if not, storage has lost what was shown, and the object
        begins anew above it."""
        try:
            newest = await self._around.loads.epoch(self.name)
        except Unavailable:
            self._end("storage_failed")
            return
        if not self.awake or self.epoch != beyond.own_epoch:
            return  # it was reset meanwhile, and all were told to attach again
        if newest > self.epoch:
            self.supersede()
        else:
            self._beyond = beyond
            self._reset("damage")

    def _take_inputs(self, peer: Recipient, message: link.Inputs) -> None:
        seat = self.seats.get(peer.gateway)
        if seat is None or seat.peer is not peer or seat.turn != message.turn:
            turn = message.turn
            peer.send(link.Goodbye(self.name, self.epoch, 0, "reset", turn))
            return
        machine, now, hold = self._machine, self._around.clock.now(), self._gate.hold
        said, process = link.Said, process_of(peer.gateway)
        for entry in message.inputs:
            n, seen = entry.n, None
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
                elif type(entry) is link.Notified:
                    effects = machine.notify(now, entry.data)
                else:
                    assert type(entry) is link.GivenBefore
                    effects = []
            except Exception:
                self._fault(Step(answer(entry), seat, n), f"a {type(entry).__name__}")
                return  # what is behind it comes again
            hold(Step(effects, seat, n, seen))

    def leave(self, peer: Recipient) -> None:
        """A link broke. Its sockets may well live on, so nobody has left the room."""
        self._waiting = [entry for entry in self._waiting if entry[0] is not peer]
        seat = self.seats.get(peer.gateway)
        if seat is not None and seat.peer is peer:
            del self.seats[peer.gateway]

    def bury(self, gateway: str) -> None:
        """A gateway is dead for certain: its sockets leave."""
        seat = self.seats.pop(gateway, None)
        if seat is not None:
            # If it lives after all it must know that it has to attach again.
            covered, turn = seat.covered, seat.turn
            seat.peer.send(link.Goodbye(self.name, self.epoch, covered, "reset", turn))
        if self.awake and not self._faulty:
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
        """Once in an iteration of the loop: what arrived together goes together."""
        if not self._flush_due:
            self._flush_due = True
            self._around.loop.call_soon(self._timed, self._flush)

    def _timed(self, work: Callable[[], None]) -> None:
        began = perf_counter()
        work()
        self.heat.took(perf_counter() - began)

    def _flush(self) -> None:
        self._flush_due = False
        if not self.awake or self._gate.flying:
            return
        # Who cannot be sure to be the only one shows nothing (design.md §3, Fencing);
        # an append needs no trust, it is refused.
        if not self._gate.idle and (self._around.trusted(self) or self._gate.appends):
            events = self._gate.take_off()
            if events:
                self._around.reached("before_append")
                commit = Commit(self.name, self.epoch, events)
                self._around.committer.add(commit, self._committed)
            else:
                self._show_landed()
        if self._faulty and self._gate.idle:
            self._recover()
        self._set_alarm()

    def _show_landed(self) -> None:
        """Release what has landed. If that raises, which is our bug, what is not sent
        yet is dropped, and the inputs it would have covered come again."""
        try:
            self._release.run(self.name, self.epoch, self._gate.land())
        except Exception:
            for seat in self.seats.values():
                seat.covered, seat.items = seat.told, []
            self._release = Release(self.seats, self._elsewhere)
            self._fault(Step((), None, 0), "showing what happened")

    def _committed(self, commit: Commit, problem: Exception | None) -> None:
        if not self.awake or commit.epoch != self.epoch:
            return  # of an incarnation that was reset meanwhile
        if problem is None:
            self._around.reached("after_append")
            self._timed(self._shown)
        elif isinstance(problem, Fenced):
            self._end("duplicate_activation")
        else:
            self._reset()

    def _shown(self) -> None:
        self._show_landed()
        self._flush()

    def _elsewhere(self, effect: fx.Effect, gateway: str | None) -> None:
        derived = self._around.derived
        if type(effect) is fx.Record:
            derived.record(effect, gateway)
        elif type(effect) is fx.Touch:
            derived.touch(self.name, effect.users, effect.timestamp)
        elif type(effect) is fx.Read:
            derived.read(self.name, effect.user_id, effect.seq)
        else:
            self._attending.take(effect, gateway)

    # What its attendant may ask for.

    def tell(self, notification: bytes) -> None:
        """Something that the machine was waiting for has come about."""
        if self._open:
            self._touched_at = self._around.loop.time()
            self._do("a notice", lambda now: self._machine.notify(now, notification))

    def show(self, effect: fx.Effect) -> None:
        """Behind all that was shown so far."""
        if self._open:
            self._gate.hold(Step((effect,), None, 0))
            self._flush_soon()

    def route(self, target: str, gateway: str) -> None:
        """Notify this object by this gateway."""
        self._release.route(target, gateway)

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
        if not self.awake or self._faulty:
            return
        if due is not None and due <= self._around.clock.now():
            self._do("an alarm", self._machine.alarm)
        else:
            self._set_alarm()

    # Sleep, and the end.

    async def hibernate(self, reason: str = "idle") -> bool:
        """Write the mirror, say goodbye, be gone (design.md §3.7). False: it stays, or
        was reset or ended meanwhile.

        `reason`: `idle`, `moved` or `shutting_down`. An idle object refuses while
        anything is unconfirmed. One that moves or shuts down takes nothing more, waits
        for `SETTLE_S` at most, and leaves what is not covered with the gateways.
        """
        if self.state is not State.RUNNING:
            return False
        if not self._at_rest(reason):
            if reason == "idle":
                return False
            self.state = State.PARTING
            self._attending.cancel()
            if not await self._settled(reason):
                return False
            if not self._gate.idle:
                # A mirror must hold nothing that is not confirmed, so none is made.
                self._end("storage_failed")
                return True
        self.state = State.CLOSING
        self._attending.cancel()
        try:
            data = self._machine.snapshot()
            self._around.reached("before_mirror")
            final = reason == "idle" or self._complete
            # A room that nobody is in and nothing was said in is not worth a mirror.
            room, left = is_room(self.name), self._machine
            empty = room and not left.seq and not left.sockets
            await self._around.log.save(
                self.name, self.epoch, data, final=final, empty=empty
            )
            self._around.reached("after_mirror")
        except Fenced:
            reason = "duplicate_activation"
        except Unavailable:
            # The mirror may have been written. After a new epoch it is not believed.
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
        """Whether the roster may be believed at the wake. Soon after a crash not all
        gateways are back, and whoever comes later must not seem to join."""
        lived = self._around.loop.time() - self._loaded_at
        return not self._machine.crashed or lived >= COMPLETE_AFTER_S

    def _at_rest(self, reason: str) -> bool:
        """Nothing is unconfirmed and, if it moves, no alarm is due at once: silent
        sockets do not follow it to hear what that would tell them."""
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
        return self.state is State.PARTING

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
        """Storage cannot be reached from here: let a host that can take the object."""
        if self.state is not State.GONE:
            self._end("storage_failed")

    def supersede(self) -> None:
        """A higher epoch exists: show nothing more."""
        self._end("duplicate_activation")

    def vanish(self) -> None:
        """Be dead at once, for a process that plays its own death."""
        self.state = State.GONE
        self._attending.cancel()
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
        self._attending.cancel()
        self.seats.clear()
        self._waiting.clear()
        self._gate.drop()
        if self._timer is not None:
            self._timer.cancel()
        logger.info(
            "%s gone, %s, epoch %d, seq %d", self.name, reason, self.epoch, self.seq
        )
        self._around.gone(self, reason)
