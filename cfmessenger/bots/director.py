"""Director: the object behind the bots, as a pure state machine.

Owns who is in rotation and who may be answered: it reserves an answer durably before
anybody thinks about it, lets one question of a room be thought about at a time, and
says each answer once. Thinking itself is its attendant's (`effects.Think`). Parts:
`rotation`, `ledger`, `floor`.

Who is not answered is told why, but not each time. Such an excuse takes the way of an
answer (`effects.Think`), only that no replier is asked: so it comes at the pace of an
answer, and not at all while the bots are switched off.

A question that was thought about when a life ended is never answered. What it cost is
spent: better no answer than two.
"""

from collections.abc import Sequence
from typing import Self

import msgspec

from ..chat.effects import Append, Effect, Notify, Says, encode_notification
from ..chat.machine import BLANK, Life, Machine
from ..chat.mirror import Snapshots
from ..ids import room_name
from .effects import Active, Count, Spent, Think
from .floor import Floor
from .inbox import Answered, Asked, Inbox, RotationDue, decode
from .ledger import DAY_MS, Ledger, LedgerRow, Refusal
from .rotation import Rotation, RotationRow
from .talk import Answer, Question

ENOUGH = "I have talked myself hoarse for today. Ask me again tomorrow!"
OFF_DUTY = "I am off duty, and back in {time}. Meanwhile try {others}."
NAMED = 4
"""How many other bots an excuse names."""

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


class Budget(msgspec.Struct, frozen=True, gc=False):
    """How much the bots may say: `active` personas in rotation; answers a `day` in all,
    and to one `user`; answers thought about at a time in one `room`. 0: no limit, but
    no bots for `active`."""

    active: int = 4
    day: int = 10_000
    user: int = 50
    room: int = 1


class Persona(msgspec.Struct, frozen=True, gc=False):
    """What the director knows of a bot."""

    id: str
    display_name: str


class Reserved(msgspec.Struct, frozen=True, gc=False, tag="reserved", rename="camel"):
    """In the log: an answer is spent, on message `seq` of the room."""

    timestamp: int
    room_id: str
    seq: int
    bot_id: str
    user_id: str


class Rotated(msgspec.Struct, frozen=True, gc=False, tag="rotated", rename="camel"):
    """In the log: these bots are on in the hour `slot` (hours since 1970)."""

    timestamp: int
    slot: int
    active: tuple[str, ...]


class SaidEnough(msgspec.Struct, frozen=True, gc=False, tag="told", rename="camel"):
    """In the log: `room:<id>` or `user:<id>` was told that it is enough for today."""

    timestamp: int
    whom: str


class Excused(msgspec.Struct, frozen=True, gc=False, tag="excused", rename="camel"):
    """In the log: a room was told that a bot is off duty."""

    timestamp: int
    room_id: str
    bot_id: str


Event = Reserved | Rotated | SaidEnough | Excused

_encode_event = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder[Event](Event).decode


class _Snapshot(msgspec.Struct, frozen=True, gc=False, tag=1):
    seq: int
    rotation: RotationRow
    ledger: LedgerRow
    gateways: list[str]


_encode = msgspec.msgpack.Encoder().encode
_snapshots = Snapshots(_Snapshot)
is_later = _snapshots.is_later


class Director(Machine):
    """Rotation, budget and the floor. No sockets are held here."""

    def __init__(
        self, personas: Sequence[Persona], budget: Budget, life: Life = BLANK
    ) -> None:
        """A director that remembers nothing. `personas` in the directory's order."""
        super().__init__(life)
        self._names = {each.id: each.display_name for each in personas}
        self._rotation = Rotation([each.id for each in personas], budget.active)
        self._ledger = Ledger(budget.day, budget.user)
        self._floor = Floor(budget.room)

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, Unix ms. It is set while anybody thinks, so
        the director stays awake as long."""
        return self._floor.next_end

    # What it is told.

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """A room asks, a gateway's clock struck, or somebody has thought."""
        try:
            told: Inbox = decode(notification)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # of another version; these are best effort
        if isinstance(told, Asked):
            return self._asked(now, told.question)
        if isinstance(told, Answered):
            return self._answered(now, told)
        assert isinstance(told, RotationDue)
        return self._rotate(now) or [self._active()]

    def _rotate(self, now: int) -> list[Effect]:
        due = self._rotation.due(now)
        if due is None:
            return []
        slot, active = due
        came = [bot for bot in active if bot not in self._rotation.active]
        new_hour = slot > self._rotation.slot
        self._rotation.rotate(slot, active)
        effects: list[Effect] = [
            self._append(Rotated(now, slot, active)),
            self._active(),
        ]
        turns = active if new_hour else came
        effects += [_count(now, bot, "rotations") for bot in turns]
        return effects

    def _active(self) -> Active:
        return Active(self._rotation.active, self._rotation.line)

    def _asked(self, now: int, question: Question) -> list[Effect]:
        bot, user, room = question.bot_id, question.asked_by, question.room_id
        if bot not in self._names:
            return []
        effects = self._rotate(now)
        effects.append(_count(now, bot, "mentions"))
        if self._floor.knows(room, question.seq):
            return [*effects, _count(now, bot, "refused_repeated")]
        if bot not in self._rotation.active:
            return effects + self._off_duty(now, question)
        refusal = self._ledger.refusal(now, user)
        if refusal is not None:
            return effects + self._enough(now, question, refusal)
        if self._floor.full(room):
            return [*effects, _count(now, bot, "refused_busy")]
        self._ledger.reserve(now, user)
        effects.append(self._append(Reserved(now, room, question.seq, bot, user)))
        ledger = self._ledger
        effects.append(Spent(ledger.day, None, ledger.total))
        effects.append(Spent(ledger.day, user, ledger.by_user[user]))
        if self._floor.join(now, question):
            effects.append(Think(question))
        return effects

    def _off_duty(self, now: int, question: Question) -> list[Effect]:
        bot, room = question.bot_id, question.room_id
        others = [self._names[each] for each in self._rotation.active[:NAMED]]
        told = (bot, room) in self._rotation.excused
        if told or not others or not self._floor.free(room):
            return [_count(now, bot, "refused_off_duty")]
        self._rotation.excuse(bot, room)
        text = OFF_DUTY.format(
            time=_time(self._rotation.back_at(bot) - now), others=_either(others)
        )
        excuse = Answer(text, outcome="off_duty")
        return self._excuse(now, question, excuse, Excused(now, room, bot))

    def _enough(self, now: int, question: Question, refusal: Refusal) -> list[Effect]:
        bot, room = question.bot_id, question.room_id
        whom = (
            room_name(room) if refusal == "quota_day" else f"user:{question.asked_by}"
        )
        if not (self._floor.free(room) and self._ledger.tell(now, whom)):
            return [_count(now, bot, f"refused_{refusal}")]
        excuse = Answer(ENOUGH, outcome=refusal)
        return self._excuse(now, question, excuse, SaidEnough(now, whom))

    def _excuse(
        self, now: int, question: Question, excuse: Answer, event: Event
    ) -> list[Effect]:
        """Say so, and keep that in the log. Counted when it was said."""
        self._floor.join(now, question)
        return [self._append(event), Think(question, excuse)]

    def _say(self, question: Question, text: str) -> Notify:
        bot = question.bot_id
        says = Says(bot, self._names[bot], question.seq, text)
        return Notify(room_name(question.room_id), encode_notification(says))

    def _answered(self, now: int, told: Answered) -> list[Effect]:
        question = self._floor.question(told.room_id, told.seq)
        if question is None:
            return []  # given up, or of an earlier life
        bot, answer = question.bot_id, told.answer
        effects: list[Effect]
        if not answer.text:
            effects = [_count(now, bot, f"refused_{answer.outcome}")]
        else:
            # An excuse is said, and counts as what it excuses.
            good = answer.outcome == "ok"
            figure = "replies" if good else f"refused_{answer.outcome}"
            effects = [
                self._say(question, answer.text),
                _count(now, bot, figure),
                _count(now, bot, "latency_ms", told.latency_ms),
                _count(now, bot, "latency_count"),
            ]
            if answer.tokens:
                effects.append(_count(now, bot, "tokens", answer.tokens))
        return effects + self._next(now, question)

    def _next(self, now: int, question: Question) -> list[Effect]:
        following = self._floor.leave(now, question.room_id, question.seq)
        return [] if following is None else [Think(following)]

    # The alarm: what is thought about for too long is given up.

    def alarm(self, now: int) -> list[Effect]:
        """Give up the answers that never came; who waits behind them is next."""
        effects: list[Effect] = []
        for question in self._floor.overdue(now):
            effects.append(_count(now, question.bot_id, "refused_lost"))
            effects += self._next(now, question)
        return effects

    # The log, sleep and wake.

    def _append(self, event: Event) -> Append:
        self.seq += 1
        self.receipts_changed = True  # the mirror follows, so that no log need be long
        return Append(self.seq, _encode_event(event))

    def replay(self, now: int, epoch: int, seq: int, event: bytes) -> None:
        """Take an event of the log above the snapshot's `seq`; in order, before any
        other verb."""
        found = _decode_event(event)
        self.seq = seq
        if isinstance(found, Reserved):
            self._ledger.reserve(found.timestamp, found.user_id)
        elif isinstance(found, Rotated):
            self._rotation.rotate(found.slot, found.active)
        elif isinstance(found, Excused):
            self._rotation.excuse(found.bot_id, found.room_id)
        else:
            self._ledger.tell(found.timestamp, found.whom)

    def snapshot(self) -> bytes:
        """The director at rest. Who is thinking is not in it: that is in memory."""
        rotation, ledger = self._rotation, self._ledger
        told = sorted(ledger.told)
        return _encode(
            _Snapshot(
                self.seq,
                RotationRow(
                    rotation.slot,
                    rotation.active,
                    rotation.line,
                    tuple(rotation.excused),
                ),
                LedgerRow(ledger.day, ledger.total, ledger.by_user, told),
                self.holders.snapshot(),
            )
        )

    @classmethod
    def restore(
        cls,
        personas: Sequence[Persona],
        budget: Budget,
        snapshot: bytes,
        clean: bool,
        life: Life = BLANK,
    ) -> Self:
        """The director as it was; `replay` brings what the log has above its `seq`.

        `clean`: the snapshot is a final mirror, so its gateways are still seated. A
        snapshot of another version gives a director that remembers nothing.
        """
        saved = _snapshots.decode(snapshot)
        if saved is None:
            return cls(personas, budget, life.unremembered)
        director = cls(personas, budget, life)
        director.seq = saved.seq
        director._rotation.restore(saved.rotation)
        ledger, kept = director._ledger, saved.ledger
        ledger.day, ledger.total = kept.day, kept.total
        ledger.by_user, ledger.told = kept.by_user, set(kept.told)
        if clean:
            director.holders.gateways.update(saved.gateways)  # and none is called
        return director


def _time(ms: int) -> str:
    """About how long that is, in words."""
    if ms < HOUR_MS:
        minutes = max(1, ms // MINUTE_MS)
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    hours = round(ms / HOUR_MS)
    return f"about {hours} hour{'s' if hours > 1 else ''}"


def _either(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _count(now: int, bot: str, figure: str, amount: int = 1) -> Count:
    return Count(now // DAY_MS, bot, figure, amount)
