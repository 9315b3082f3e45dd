"""Room: the ChatRoom Durable Object as a pure state machine.

Owns what is said, in which order, by whom and who hears of it (wire.md §2, §3 and §5).
Verbs take the time in milliseconds and return effects in the order in which they are to
be seen; client faults are effects, never exceptions. An answer to a durable event is
ready at once, and it is the shell's output gate that shows it to nobody before the
append is confirmed.

Must not know a clock, sockets, storage or randomness. Its parts are `members` (who
comes and goes), `typing_indicator`, `receipts`, `history`, `ratelimit`, `room_time` and
`compose`. Longer than most: what is left here is one verb after another.
"""

from collections.abc import Callable
from typing import Protocol, Self, assert_never

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ..errors import ProtocolError
from ..ids import PRESENCE, direct_users, gateway_of
from ..wire import protocol
from ..wire.events import ChatMessage, Event, Rate, UnknownEvent, read_event
from ..wire.protocol import (
    Ack,
    Chat,
    Durable,
    DurableFrame,
    Ping,
    SetPresence,
    Typing,
)
from . import mirror
from .compose import compose, fingerprint, tell_lost
from .crowd import NEVER, USUAL, Crowd
from .effects import (
    Append,
    Attachment,
    Behind,
    DirectMessage,
    Effect,
    Notify,
    Read,
    Repeat,
    Says,
    Send,
    Subscribe,
    Touch,
    Types,
    decode_notification,
    encode_notification,
)
from .history import History, Kept
from .machine import BLANK, Life, Machine
from .members import Members
from .ratelimit import UserRates
from .receipts import Receipts
from .room_time import RoomTime
from .roster import Person, Roster
from .typing_indicator import TypingIndicator


class Earlier(Protocol):
    """What was said in a room before the message that an ear hears."""

    def latest(self, count: int) -> list[tuple[int, bytes]]:
        """The newest `count` events that the room still has in its buffer with their
        numbers, oldest first."""


Ear = Callable[[ChatMessage, Earlier], Notify | None]
"""What a guest wants told of a message that a socket said; None: nothing."""


class RoomRules(msgspec.Struct, frozen=True, gc=False):
    """What an operator may change: rates as (count, seconds), count 0 = unlimited.

    `ears`: what guests want told of chat messages, each once it is committed. `crowd`:
    of group rooms; the contract fixes it, and only tests have another.
    """

    chat_rate: tuple[int, int] = (20, 10)
    nudge_rate: tuple[int, int] = (3, 10)
    ears: tuple[Ear, ...] = ()
    crowd: Crowd = USUAL


class Room(Machine):
    """One room. Group or direct is in the id (`dm_…`), which must be canonical.

    `receipts_changed` is set by an ack. One attribute more than others may have: three
    are its life's, which the shell reads on the path of every message.
    """

    def __init__(self, room_id: str, rules: RoomRules, life: Life = BLANK) -> None:
        """A room that remembers nothing: new, or about to be told by `replay`."""
        super().__init__(life)
        self._id = room_id
        self._direct = direct_users(room_id)
        self._ears = rules.ears
        self._time = RoomTime()
        self._history = History()
        self._roster = Roster()
        direct, roster = bool(self._direct), self._roster
        crowd = NEVER if direct else rules.crowd
        self._typing = TypingIndicator(room_id, roster, crowd)
        self._members = Members(
            room_id, direct, roster, self.holders, self._typing, self._time, crowd
        )
        self._receipts = Receipts(room_id, direct, self._history, self._time)
        self._rates: dict[Rate, UserRates] = {
            "chat": _rates(rules.chat_rate),
            "nudge": _rates(rules.nudge_rate),
        }

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, in ms; None: no timer is running."""
        typing_at = self._typing.typists.alarm_at
        tell_at = self._members.roll_call.alarm_at
        if tell_at is None or (typing_at is not None and typing_at < tell_at):
            return typing_at
        return tell_at

    @property
    def sockets(self) -> int:
        """How many connections are in the roster."""
        return len(self._roster.conns)

    def events_after(self, seq: int) -> list[bytes] | None:
        """The events after `seq` as they went into the log; None if some of them have
        left the buffer.

        Where the log has lost some, an empty `history` frame with `gap: true` stands
        for them.
        """
        return self._history.events_after(self._id, seq, self.seq)

    # Connections.

    def connect(
        self,
        now: int,
        attachment: Attachment,
        since: int | None,
        greeted: bool = False,
        era: int | None = None,
    ) -> list[Effect]:
        """A socket enters: greeting, history, subscription, then the news of it.

        With a `since` older than the buffer it may speak but hears nothing yet: the
        answer is `Behind`, and the gateway comes again, `greeted`, when it has caught
        up. With one of another era it is shown the buffer, after a gap.
        """
        conn, seq, history = attachment.conn, self.seq, self._history
        effects: list[Effect] = []
        strange = not greeted and not history.counts(since, era)
        if strange:
            since = None
        if not greeted:
            hello = self._members.line(now, "Connected to ChatRoom")
            effects.append(Send((conn,), hello))
        if since is None:
            if len(history) or strange:
                shown = history.frame(self._id, seq, strange=strange)
                effects.append(Send((conn,), shown))
        elif not (greeted and since == seq) and history.reaches(since):
            effects.append(Send((conn,), history.frame(self._id, seq, since)))
        self.gateways.add(gateway_of(conn))
        entered = self._members.enter(now, attachment)
        if since is None or history.reaches(since):
            effects.append(Subscribe((conn,), strange))
            # Its own "joined", which passed while it was still catching up.
            effects += self._members.caught_up(conn)
        else:
            effects.append(Behind(conn, since, seq))
            self._members.keep_for(conn, entered)
        return effects + entered

    def close(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        return self._members.leave(now, conn)

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway tells which sockets it holds here; this is not joining."""
        effects = self._members.attach(now, gateway, attachments)
        return effects + self._receipts.old_marks()

    def change(self, now: int, attachment: Attachment) -> list[Effect]:
        """A gateway has newer words of somebody, or a newer status."""
        return self._members.change(now, attachment)

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets leave."""
        return self._members.detach(now, gateway)

    def give_up(self, now: int) -> list[Effect]:
        """All that were `absent` have come, or are not waited for any longer."""
        return super().give_up(now) + self._members.settle(now)

    # Frames.

    def message(self, now: int, conn: str, data: bytes, fresh_id: str) -> list[Effect]:
        """A socket sent `data`; `fresh_id` is the message's id if it brings none."""
        person = self._roster.conns.get(conn)
        if person is None:
            return []
        try:
            frame = protocol.decode_room_frame(data)
        except ProtocolError as error:
            return [Send((conn,), protocol.error_frame(error), fault=True)]
        if isinstance(frame, Durable):  # first, and faster than as a case
            return self._say(now, conn, person, frame, fresh_id)
        match frame:
            case Ack():
                effects, raised = self._receipts.ack(now, person.user_id, frame)
                self.receipts_changed = self.receipts_changed or raised
                return effects
            case Typing():
                return self._typing.report(now, conn, person, frame.is_typing)
            case SetPresence():
                # It only wakes us: the status comes from the registry and the name from
                # the row, both as a `change`.
                return []
            case Ping():
                pong = protocol.Pong(self._time.at(now), frame.t)
                return [Send((conn,), protocol.encode(pong))]
            case _:
                assert_never(frame)

    def _say(
        self, now: int, conn: str, person: Person, frame: DurableFrame, fresh_id: str
    ) -> list[Effect]:
        sender_id, own_id = person.user_id, frame.id or fresh_id
        self._history.forget(now)
        # Before the rate: "the repeat … costs no rate".
        kept = self._history.find(sender_id, own_id)
        if kept is not None:
            return self._repeat(conn, frame, kept)
        rate = frame.becomes.rate
        assert rate is not None
        rates = self._rates[rate]
        wait = rates.check(sender_id, now)
        if wait:
            refused = ProtocolError(
                "RATE_LIMITED", retry_after_ms=wait, id=frame.id or None
            )
            return [Send((conn,), protocol.error_frame(refused))]
        rates.record(sender_id, now)
        at, seq = self._time.at(now), self.seq + 1
        name = person.display_name
        event = compose(frame, own_id, self._id, sender_id, name, at, seq)
        if not self._ears or not isinstance(event, ChatMessage):
            return self._append(event)
        # Heard before it joins the history, told once it is committed.
        heard: list[Effect] = []
        for ear in self._ears:
            told = ear(event, self._history)
            if told is not None:
                heard.append(told)
        return self._append(event) + heard

    def _repeat(self, conn: str, frame: DurableFrame, kept: Kept) -> list[Effect]:
        effects: list[Effect] = []
        if kept.said and kept.said != fingerprint(_repeated(frame, kept, self._id)):
            # Before the echo, which a client takes for the end of the matter.
            reused = ProtocolError("ID_REUSED", id=kept.id)
            effects.append(Send((conn,), protocol.error_frame(reused)))
        return [*effects, Repeat(conn, kept.seq, kept.event or None)]

    def _append(self, event: Event) -> list[Effect]:
        if self._history.era is not UNSET:
            event = replace(event, era=self._history.era)
        data, seq, at = protocol.encode(event), event.seq, event.timestamp
        sender_id, said = event.sender_id, fingerprint(event)
        self.seq = seq
        self._history.add(self.epoch, seq, sender_id, event.id, at, data, said)
        effects: list[Effect] = [Append(seq, data, shown=True)]
        if self._direct:
            told = encode_notification(DirectMessage(self._direct, data))
            effects += [
                Touch(self._direct, at),
                Read(sender_id, seq),
                Notify(PRESENCE, told),
            ]
        return effects

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """A guest tells what somebody without a socket does here."""
        try:
            told = decode_notification(notification)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # of another version; these are best effort
        if isinstance(told, Types):
            who, name = told.user_id, told.display_name
            return self._typing.report_socketless(now, who, name, told.is_typing)
        if isinstance(told, Says):
            return self._answer(now, told)
        return []

    def _answer(self, now: int, told: Says) -> list[Effect]:
        who, name, own_id = told.user_id, told.display_name, f"re.{told.seq}"
        effects = self._typing.report_socketless(now, who, name, False)
        self._history.forget(now)
        if self._history.find(who, own_id) is not None:
            return effects
        at, seq = self._time.at(now), self.seq + 1
        frame = Chat(told.content)
        return effects + self._append(
            compose(frame, own_id, self._id, who, name, at, seq)
        )

    # The alarm.

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due: stop typists, tell who is here. Early calls do nothing."""
        return self._typing.alarm(now) + self._members.alarm(now)

    # Sleep and wake.

    def snapshot(self) -> bytes:
        """The room at rest, for `restore`. Typing is not in it: it has timers."""
        return mirror.encode(
            mirror.RoomSnapshot(
                self.seq,
                self._time.latest,
                self._history.snapshot(),
                self._rates["chat"].snapshot(),
                self._rates["nudge"].snapshot(),
                {},
                self._roster.snapshot(),
                self.holders.snapshot(),
                self._members.roll_call.pending,
            )
        )

    @classmethod
    def restore(
        cls,
        room_id: str,
        rules: RoomRules,
        snapshot: bytes,
        clean: bool,
        life: Life = BLANK,
    ) -> Self:
        """The room as it was; `replay` brings what the log has above its `seq`.

        `clean` is false if the room has lived since: then its roster is not to be
        believed. A snapshot of another version gives a room that remembers nothing.
        """
        saved = mirror.decode(snapshot)
        if saved is None:
            return cls(room_id, rules, life.unremembered)
        room = cls(room_id, rules, life)
        room.seq, room._time.latest = saved.seq, saved.timestamp
        room._receipts.restore(saved.read_marks)
        room._history.restore(saved.messages)
        room._rates["chat"].restore(saved.chats)
        room._rates["nudge"].restore(saved.nudges)
        room.holders.restore(saved.gateways, clean)
        if clean:
            room._members.restore(saved.roster, saved.stale, saved.timestamp)
        return room

    def recollect(self, snapshot: bytes) -> None:
        """The statuses in it; they only rise."""
        saved, history = mirror.decode(snapshot), self._history
        for row in saved.messages if saved is not None else ():
            kept = history.find(row.sender_id, row.id)
            if row.status and kept is not None and kept.seq == row.seq:
                self.receipts_changed |= history.upgrade(kept, row.status)

    def lost(self, now: int, first: int, last: int) -> bytes | None:
        """See `Machine`."""
        seq = self.seq + 1
        return protocol.encode(
            tell_lost(self._id, self._time.at(now), seq, first, last)
        )

    def replay(self, now: int, epoch: int, seq: int, event: bytes) -> None:
        """Take an event of the log above `seq`, in order, before anything else.

        Rebuilds the buffer, the ids, the rates and the clock's floor. A room without a
        snapshot needs the last 1,000 messages or 60 s, whichever is more. An event of a
        type that this code does not know is kept as it stands, and costs no rate. One
        that cannot be read raises and changes nothing: then `skip` it.
        """
        found, event = read_event(seq, event)
        sender_id, at = found.sender_id, found.timestamp
        self.seq = seq
        self._time.at(at)
        said = fingerprint(found)
        self._history.add(epoch, seq, sender_id, found.id, at, event, said)
        self._history.era = found.era
        self._history.forget(now)
        if not isinstance(found, UnknownEvent) and found.rate is not None:
            # The writer's clock may have been ahead.
            self._rates[found.rate].record(sender_id, min(at, now))


def _repeated(frame: DurableFrame, kept: Kept, room_id: str) -> Event:
    at = kept.timestamp
    return compose(frame, kept.id, room_id, kept.sender_id, "", at, kept.seq)


def _rates(rate: tuple[int, int]) -> UserRates:
    count, seconds = rate
    return UserRates(count, seconds * 1_000)
