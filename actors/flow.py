"""What an object is told and what it shows: the path of its messages, in one place.

An input that the gate lets in is given to the machine; what it causes is held behind
the output gate, takes off once in an iteration of the loop, with what must be appended,
and is shown when that is confirmed (design.md §8, steps 6 to 12). It must not know how
an object comes to life, begins anew or ends: its `Life` does (activation.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from actors.alarm import Alarm
from actors.attending import Attending
from actors.faults import Faults, answer, answer_attach
from actors.gates import InputGate, OutputGate, Step
from actors.heat import Heat
from actors.kinds import Kind
from actors.loading import SeenBeyond
from actors.ownership import Lived
from actors.release import Recipient, Release, Seat, Seating
from actors.surroundings import Surroundings
from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import BLANK, Machine
from cfmessenger.ids import process_of
from cfmessenger.link import messages as link
from cfmessenger.storage.log import Commit

logger = logging.getLogger("cfmessenger.activation")

FromGateway = link.Attach | link.Inputs


class Life(Lived, Protocol):
    """What of an activation this needs."""

    name: str

    @property
    def awake(self) -> bool:
        """What is held may be shown."""

    def strange(self, seen: SeenBeyond) -> bool:
        """A gateway has seen something else under numbers that we have given."""

    def doubt(self, beyond: SeenBeyond) -> None:
        """A gateway has seen more than we know."""

    def refused(self, problem: Exception) -> None:
        """An append was, or nobody knows what became of it."""

    def recover(self) -> None:
        """The machine has failed, and everything that came before that is shown."""


class Flow:
    """One for each activation. It takes what comes while its `entrance` is open.

    A little longer than others may be: the path of a message is read in one place.
    """

    def __init__(self, life: Life, kind: Kind, around: Surroundings) -> None:
        # Until it is loaded a blank one, with the epoch as soon as that is taken.
        self.machine: Machine = kind.fresh(BLANK)
        self.entrance: InputGate[Recipient, FromGateway] = InputGate()
        # By gateway: from its attach until its link breaks, it is dead, or a reset.
        self.seats: dict[str, Seat] = {}
        self.faults = Faults()
        self.heat = Heat(around.loop.time())
        self._life = life
        self._kind = kind
        self._around = around
        self._touched_at = around.loop.time()  # of the last event
        self._gate: OutputGate[Seat] = OutputGate()
        self._release = Release(self.seats, self._elsewhere)
        self._flush_due = False  # from `_flush_soon` until `_flush`
        self._attending = Attending(kind, around.derived, around.clock, self)
        self._alarm = Alarm(around.loop, around.clock, self._rung)

    @property
    def confirmed(self) -> bool:
        """Nothing is held or in flight."""
        return self._gate.idle

    def idle_for(self, now_s: float) -> float:
        """Seconds (loop time) without an event; 0 while anything is pending."""
        busy = not self._gate.idle or self.machine.alarm_at is not None
        busy = busy or self._attending.busy or bool(self.entrance.waiting)
        return 0.0 if busy else now_s - self._touched_at

    def begin(self, machine: Machine) -> list[tuple[Recipient, FromGateway]]:
        """It is loaded: let events in. Returns what has waited for that."""
        self.machine = machine
        self._release.shown = machine.seq
        self._release.call(machine.absent)
        return self.entrance.begin()

    def part(self) -> None:
        """Nothing more is let in; what was taken before is still shown."""
        self.entrance.shut()
        self._attending.cancel()

    def drop(self) -> None:
        """Forget what is not shown, and everybody who is seated or waits."""
        self._attending.cancel()
        self._gate.drop()
        self._release.call(())
        self._alarm.cancel()
        self.seats.clear()
        self.entrance.drop()
        self.faults.recovering = False

    def give_up_absent(self) -> None:
        """Whoever was called and has not come: keep nothing for them any longer, nor
        wait for what they would have told."""
        self._release.call(())
        if self.machine.absent and not self.faults.recovering:
            self._do("giving up", self.machine.give_up)

    # In: from a gateway's message to steps behind the output gate.

    def take(self, peer: Recipient, message: FromGateway) -> None:
        """A message that the input gate has let in."""
        self._touched_at = self._around.loop.time()
        if isinstance(message, link.Attach):
            self._attach(peer, message)
        else:
            self._take_inputs(peer, message)
        self._flush_soon()

    def _attach(self, peer: Recipient, message: link.Attach) -> None:
        machine, seat = self.machine, self.seats.get(peer.gateway)
        life = self._life
        if seat is not None and message.turn < seat.turn:
            return  # late, over a link that the gateway has given up
        seen = SeenBeyond(
            machine.epoch,
            message.epoch,
            message.known,
            message.shown_in,
            message.elsewhere,
        )
        if seen.epoch > machine.epoch or seen.seq > machine.seq or life.strange(seen):
            self.entrance.shut()
            self.entrance.keep(peer, message)
            life.doubt(seen)
            return
        try:
            self._seat(peer, message)
        except Exception:
            self.entrance.keep(peer, message)  # it may not have got a seat
            fresh, now = self._kind.fresh, self._around.clock.now()
            effects = answer_attach(fresh, now, peer.gateway, message.sockets)
            self._fault(Step(effects, None, 0), "an attach")

    def _seat(self, peer: Recipient, message: link.Attach) -> None:
        machine, now = self.machine, self._around.clock.now()
        seq = message.seq
        missed = [] if seq is None else machine.events_after(seq)
        if missed is None:
            self.seats.pop(peer.gateway, None)
            self._send_away(peer, 0, "behind", message.turn)
            return
        seat = Seat(peer, message.covered, message.replay, message.turn)
        self.seats[peer.gateway] = seat
        seating = Seating(seat, tuple(missed), machine.seq)
        if message.rested != machine.previous_epoch:
            machine.missed(peer.gateway)
        effects = machine.attach(now, peer.gateway, message.sockets)
        self._gate.hold(Step((seating, *effects), None, 0))

    def _take_inputs(self, peer: Recipient, message: link.Inputs) -> None:
        seat = self.seats.get(peer.gateway)
        if seat is None or seat.peer is not peer or seat.turn != message.turn:
            self._send_away(peer, 0, "reset", message.turn)
            return
        machine, now, hold = self.machine, self._around.clock.now(), self._gate.hold
        said, process = link.Said, process_of(peer.gateway)
        afresh = set[str]()  # who comes in here, and has seen nothing that counts
        for entry in message.inputs:
            n, seen = entry.n, None
            try:
                if type(entry) is said:
                    seen = None if entry.conn in afresh else entry.seen
                    fresh_id = f"{process}.{n}"
                    effects = machine.message(now, entry.conn, entry.data, fresh_id)
                elif type(entry) is link.Opened:
                    effects = machine.connect(
                        now, entry.attachment, entry.since, entry.greeted, entry.era
                    )
                    if any(isinstance(e, fx.Subscribe) and e.afresh for e in effects):
                        afresh.add(entry.attachment.conn)
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
        if message.wants is not None:
            try:
                machine.want(now, peer.gateway, message.wants)
            except Exception:  # whoever attaches again says all of it
                self._fault(Step((), None, 0), "what is wanted")

    def _send_away(self, peer: Recipient, covered: int, reason: str, turn: int) -> None:
        name, epoch = self._life.name, self.machine.epoch
        peer.send(link.Goodbye(name, epoch, covered, reason, turn))

    def leave(self, peer: Recipient) -> None:
        """A link broke. Its sockets may well live on, so nobody has left the room."""
        self.entrance.forget(peer)
        seat = self.seats.get(peer.gateway)
        if seat is not None and seat.peer is peer:
            del self.seats[peer.gateway]

    def bury(self, gateway: str) -> None:
        """A gateway is dead for certain: its sockets leave."""
        seat = self.seats.pop(gateway, None)
        if seat is not None:
            # If it lives after all it must know that it has to attach again.
            self._send_away(seat.peer, seat.covered, "reset", seat.turn)
        if self._life.awake and not self.faults.recovering:
            self._do("a detach", lambda now: self.machine.detach(now, gateway))

    def _do(self, what: str, verb: Callable[[int], list[fx.Effect]]) -> None:
        """Something that no gateway's input caused."""
        try:
            effects = verb(self._around.clock.now())
        except Exception:
            self._fault(Step((), None, 0), what)
        else:
            self._gate.hold(Step(effects, None, 0))
            self._flush_soon()

    def _fault(self, step: Step[Seat], what: str) -> None:
        """The machine raised (faults.py). It is dropped with what it half did, after
        the effects of all earlier inputs were shown. `step` answers and covers the
        input at which it raised. Called in an `except` block.
        """
        self.faults.count(self._around.loop.time())
        logger.exception("%s fails at %s", self._life.name, what)
        self.part()
        self._gate.hold(step)
        self._flush_soon()

    # Out: what is held takes off, is confirmed, and is shown.

    def flush_soon(self) -> None:
        """Storage answers: what was held back may be shown."""
        if not self._gate.idle:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Once in an iteration of the loop: what arrived together goes together."""
        if not self._flush_due:
            self._flush_due = True
            self._around.turn.flush(self._flush_in_turn)

    def _flush_in_turn(self) -> None:
        self._timed(self._flush)

    def _timed(self, work: Callable[[], None]) -> None:
        began = perf_counter()
        work()
        self.heat.took(perf_counter() - began)

    def _flush(self) -> None:
        self._flush_due = False
        life, gate = self._life, self._gate
        if not life.awake or gate.flying:
            return
        # Who cannot be sure to be the only one shows nothing (design.md §3, Fencing);
        # an append needs no trust, it is refused.
        if not gate.idle and (self._around.trusted(life) or gate.appends):
            events = gate.take_off()
            if events:
                self._around.reached("before_append")
                commit = Commit(life.name, self.machine.epoch, events, life.lineage)
                self._around.committer.add(commit, self._committed)
            else:
                self._show_landed()
        if self.faults.recovering and gate.idle:
            life.recover()
        else:
            self.set_alarm()

    def _show_landed(self) -> None:
        """Release what has landed. If that raises, which is our bug, what is not sent
        yet is dropped, and the inputs it would have covered come again."""
        landed = self._gate.land()
        try:
            self._release.run(self._life.name, self.machine.epoch, landed)
        except Exception:
            for seat in self.seats.values():
                seat.covered, seat.items = seat.told, []
            self._release = Release(self.seats, self._elsewhere)
            self._fault(Step((), None, 0), "showing what happened")

    def _committed(self, commit: Commit, problem: Exception | None) -> None:
        if not self._life.awake or commit.epoch != self.machine.epoch:
            return  # of an incarnation that was reset meanwhile
        if problem is None:
            self._around.tails.committed(self._life.tail, commit.epoch, commit.events)
            self._around.reached("after_append")
            self._timed(self._shown)
        else:
            self._life.refused(problem)

    def _shown(self) -> None:
        self._show_landed()
        self._flush()

    def _elsewhere(self, effect: fx.Effect, gateway: str | None) -> None:
        derived = self._around.derived
        if type(effect) is fx.Record:
            derived.record(effect, gateway)
        elif type(effect) is fx.Touch:
            derived.touch(self._life.name, effect.users, effect.timestamp)
        elif type(effect) is fx.Read:
            derived.read(self._life.name, effect.user_id, effect.seq)
        else:
            self._attending.take(effect, gateway)

    # What its attendant may ask for.

    def tell(self, notification: bytes) -> None:
        """Something that the machine was waiting for has come about."""
        if self.entrance.open:
            self._touched_at = self._around.loop.time()
            self._do("a notice", lambda now: self.machine.notify(now, notification))

    def show(self, effect: fx.Effect) -> None:
        """Behind all that was shown so far."""
        if self.entrance.open:
            self._gate.hold(Step((effect,), None, 0))
            self._flush_soon()

    def route(self, target: str, gateway: str) -> None:
        """Notify this object by this gateway."""
        self._release.route(target, gateway)

    # The alarm.

    def set_alarm(self) -> None:
        """Ring when the machine next wants it."""
        self._alarm.set(self.machine.alarm_at)

    def _rung(self) -> None:
        self._timed(self._ring)

    def _ring(self) -> None:
        due = self.machine.alarm_at
        if not self._life.awake or self.faults.recovering:
            return
        if due is not None and due <= self._around.clock.now():
            self._do("an alarm", self.machine.alarm)
        else:
            self.set_alarm()
