"""Room: the ChatRoom Durable Object as a pure state machine.

Owns what is said, in which order, by whom and who hears of it (wire.md §2, §3 and §5).
Verbs take the time in milliseconds and return effects in the order in which they are to
be seen; client faults are effects, never exceptions. An answer to a durable event is
ready at once, and it is the shell's output gate that shows it to nobody before the
append is confirmed.

Must not know a clock, sockets, storage or randomness. Its parts are `history`,
`roster`, `rollcall`, `typists`, `ratelimit` and `compose`.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, Self, assert_never

import msgspec

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
from .compose import compose, fingerprint
from .effects import (
    Append,
    Attachment,
    Behind,
    Broadcast,
    DirectMessage,
    Effect,
    KeepAttachment,
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
from .ratelimit import UserRates
from .rollcall import RollCall
from .roster import Person, Roster
from .typists import Typist, Typists

ACKS = 100
ACKS_MS = 1_000


class Earlier(Protocol):
    """What was said in a room before the message that an ear hears."""

    def latest(self, count: int) -> list[tuple[int, bytes]]:
        """The newest `count` events that the room still has in its buffer with their
        numbers, oldest first."""


Ear = Callable[[ChatMessage, Earlier], Notify | None]
"""What a guest wants told of a message that a socket said; None: nothing."""


class RoomRules(msgspec.Struct, frozen=True, gc=False):
    """What an operator may change: rates as (count, seconds), count 0 = unlimited.

    `ears`: what guests want told of chat messages, each once it is committed.
    """

    chat_rate: tuple[int, int] = (20, 10)
    nudge_rate: tuple[int, int] = (3, 10)
    ears: tuple[Ear, ...] = ()


class Room(Machine):
    """One room. Group or direct is in the id (`dm_…`), which must be canonical.

    `receipts_changed` is set by an ack.
    """

    def __init__(self, room_id: str, rules: RoomRules, life: Life = BLANK) -> None:
        """A room that remembers nothing: new, or about to be told by `replay`."""
        super().__init__(life)
        self._id = room_id
        self._direct = direct_users(room_id)
        self._ears = rules.ears
        self._timestamp = 0  # ms; nothing is dated before it
        self._history = History()
        self._roster = Roster()
        # By connection: news of its own arrival, from `Behind` until it is subscribed
        # or gone.
        self._late: dict[str, list[Send]] = {}
        self._roll_call = RollCall(room_id, self._roster)
        self._typists = Typists()
        self._rates: dict[Rate, UserRates] = {
            "chat": _rates(rules.chat_rate),
            "nudge": _rates(rules.nudge_rate),
        }
        self._acks = UserRates(ACKS, ACKS_MS)
        # The roster was restored, so whoever is not in it joins; for this life.
        self._remembers = False
        # Of an old snapshot, which held them; told as `Read` at the first attach.
        self._read_marks: dict[str, int] = {}

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, in ms; None: no timer is running."""
        typing_at, tell_at = self._typists.alarm_at, self._roll_call.alarm_at
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
    ) -> list[Effect]:
        """A socket enters: greeting, history, subscription, then the news of it.

        With a `since` older than the buffer it may speak but hears nothing yet: the
        answer is `Behind`, and the gateway comes again, `greeted`, when it has caught
        up.
        """
        conn, seq, history = attachment.conn, self.seq, self._history
        effects: list[Effect] = []
        if not greeted:
            effects.append(Send((conn,), self._system(now, "Connected to ChatRoom")))
        if since is None:
            if len(history):
                effects.append(Send((conn,), history.frame(self._id, seq)))
        elif not (greeted and since == seq) and history.reaches(since):
            effects.append(Send((conn,), history.frame(self._id, seq, since)))
        self.gateways.add(gateway_of(conn))
        entered = self._enter(now, attachment, announce=True)
        if since is None or history.reaches(since):
            effects.append(Subscribe((conn,)))
            # Its own "joined", which passed while it was still catching up.
            effects += self._late.pop(conn, ())
        else:
            effects.append(Behind(conn, since, seq))
            lines = [Send((conn,), e.frame) for e in entered if type(e) is Broadcast]
            if lines:
                self._late[conn] = lines
        return effects + entered

    def close(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        return self._leave(now, conn)

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway tells which sockets it holds here; this is not joining.

        `attachments` is its whole set. Only the difference to a remembered roster is
        announced; after a crash there is none, and `participants` alone goes out.
        """
        announce = self._remembers or gateway in self.gateways
        conns = tuple(attachment.conn for attachment in attachments)
        effects: list[Effect] = []
        if conns:
            effects.append(Subscribe(conns))
        held = self._roster.held_by(gateway)
        slept = self.holders.attach(gateway)
        for attachment in attachments:
            person = self._roster.conns.get(attachment.conn)
            if person is None:
                effects += self._enter(now, attachment, announce)
                continue
            if person.learn(attachment):
                effects += self._taught(now, person, attachment.conn)
            elif not slept:
                self._roll_call.one_soon(now, attachment.conn)
            if person.ahead_of(attachment):
                effects.append(
                    KeepAttachment(self._attachment(person, attachment.conn))
                )
        still = set(conns)
        for conn in held:
            if conn not in still:
                effects += self._leave(now, conn)
        effects += self._silence(attachments)
        effects += [Read(user_id, seq) for user_id, seq in self._read_marks.items()]
        self._read_marks = {}
        return effects

    def change(self, now: int, attachment: Attachment) -> list[Effect]:
        """A gateway has newer words of somebody, or a newer status."""
        person = self._roster.conns.get(attachment.conn)
        if person is None or not person.learn(attachment):
            return []
        return self._taught(now, person, attachment.conn)

    def _taught(self, now: int, person: Person, conn: str) -> list[Effect]:
        """A socket has brought what is newer of its user: everybody here is told, and
        so are the gateways of their other sockets. Those may hear of it from nobody
        else, if whoever told the first one has died since."""
        self._roll_call.everyone_soon(now)
        others = [other for other in person.conns if other != conn]
        return [KeepAttachment(self._attachment(person, other)) for other in others]

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets leave."""
        self.holders.detach(gateway)
        effects: list[Effect] = []
        for conn in self._roster.held_by(gateway):
            effects += self._leave(now, conn)
        return effects

    def _enter(self, now: int, attachment: Attachment, announce: bool) -> list[Effect]:
        effects: list[Effect] = []
        person, arrived = self._roster.join(attachment)
        learned = not arrived and person.learn(attachment)
        known = person.attachment(attachment.conn, attachment.typing)
        if known != attachment:
            effects.append(KeepAttachment(known))
        if arrived:
            if announce:
                effects += self._announce(now, person, "joined")
            self._roll_call.everyone_soon(now)
        elif learned:
            effects += self._taught(now, person, attachment.conn)
        else:
            self._roll_call.one_soon(now, attachment.conn)
        return effects

    def _leave(self, now: int, conn: str) -> list[Effect]:
        self._late.pop(conn, None)
        left = self._roster.leave(conn)
        if left is None:
            return []
        person, gone = left
        effects = self._show_typing(self._typists.stop(now, person.user_id, conn))
        if gone:
            effects += self._announce(now, person, "left")
            self._roll_call.everyone_soon(now)
        return effects

    def _announce(self, now: int, person: Person, did: str) -> list[Effect]:
        if self._direct:
            return []
        line = f"{person.display_name} {did} the room."
        return [Broadcast(self._system(now, line))]

    def _system(self, now: int, content: str) -> bytes:
        return protocol.encode(protocol.System(content, self._time(now), self._id))

    def _time(self, now: int) -> int:
        # "`timestamp` never goes backwards within a room", even if the clock does.
        if now > self._timestamp:
            self._timestamp = now
        return self._timestamp

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
                return self._ack(now, person, frame)
            case Typing():
                return self._type(now, conn, person, frame)
            case SetPresence():
                # It only wakes us: the status comes from the registry and the name from
                # the row, both as a `change`.
                return []
            case Ping():
                pong = protocol.Pong(self._time(now), frame.t)
                return [Send((conn,), protocol.encode(pong))]
            case _:
                assert_never(frame)

    def _say(
        self,
        now: int,
        conn: str,
        person: Person,
        frame: DurableFrame,
        fresh_id: str,
    ) -> list[Effect]:
        sender_id, own_id = person.user_id, frame.id or fresh_id
        self._history.forget(now)
        # Before the rate: "the repeat … costs no rate".
        kept = self._history.find(sender_id, own_id)
        if kept is not None:
            return self._repeat(conn, frame, kept)
        rates = self._rates[frame.becomes.rate]
        wait = rates.check(sender_id, now)
        if wait:
            refused = ProtocolError(
                "RATE_LIMITED", retry_after_ms=wait, id=frame.id or None
            )
            return [Send((conn,), protocol.error_frame(refused))]
        rates.record(sender_id, now)
        at, seq = self._time(now), self.seq + 1
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

    def _ack(self, now: int, person: Person, frame: Ack) -> list[Effect]:
        user_id = person.user_id
        # "Acks beyond 100 a second are dropped in silence."
        if self._acks.check(user_id, now):
            return []
        self._acks.record(user_id, now)
        kept = self._history.newest_for(user_id, frame.ack_id)
        if kept is None:
            return []
        effects: list[Effect] = []
        if self._direct and frame.status == "read":
            effects.append(Read(user_id, kept.seq))
        if not self._history.upgrade(kept, frame.status):
            return effects
        self.receipts_changed = True
        told = protocol.DeliveryStatus(
            self._id, frame.ack_id, frame.status, user_id, self._time(now)
        )
        return [*effects, Broadcast(protocol.encode(told))]

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """A guest tells what somebody without a socket does here."""
        try:
            told = decode_notification(notification)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # of another version; these are best effort
        if isinstance(told, Types):
            who, name = told.user_id, told.display_name
            return self._show_typing(
                self._typists.report(now, who, name, "", told.is_typing)
            )
        if isinstance(told, Says):
            return self._answer(now, told)
        return []

    def _answer(self, now: int, told: Says) -> list[Effect]:
        who, name, own_id = told.user_id, told.display_name, f"re.{told.seq}"
        effects = self._show_typing(self._typists.report(now, who, name, "", False))
        self._history.forget(now)
        if self._history.find(who, own_id) is not None:
            return effects
        at, seq = self._time(now), self.seq + 1
        frame = Chat(told.content)
        return effects + self._append(
            compose(frame, own_id, self._id, who, name, at, seq)
        )

    # Typing.

    def _type(self, now: int, conn: str, person: Person, frame: Typing) -> list[Effect]:
        user_id, name = person.user_id, person.display_name
        before = self._typists.get(user_id)
        shown_on = before.conn if before is not None and before.shown else conn
        changed = self._typists.report(now, user_id, name, conn, frame.is_typing)
        effects = self._show_typing(changed)
        if frame.is_typing and shown_on != conn:
            moved = [shown_on, conn] if shown_on in person.conns else [conn]
            effects += [KeepAttachment(self._attachment(person, c)) for c in moved]
        return effects

    def _show_typing(self, changed: Iterable[Typist]) -> list[Effect]:
        effects: list[Effect] = []
        for typist in changed:
            user_id, conn = typist.user_id, typist.conn
            state = protocol.TypingState(
                self._id, user_id, typist.display_name, typist.shown
            )
            effects.append(Broadcast(protocol.encode(state), user_id))
            person = self._roster.conns.get(conn)
            if person is not None:
                effects.append(KeepAttachment(person.attachment(conn, typist.shown)))
        return effects

    def _silence(self, attachments: list[Attachment]) -> list[Effect]:
        # Who typed before a crash is still shown as typing; their timers are gone.
        effects: list[Effect] = []
        told: set[str] = set()
        for attachment in attachments:
            person = self._roster.conns[attachment.conn]
            known = self._attachment(person, attachment.conn)
            if not attachment.typing or known.typing:
                continue
            effects.append(KeepAttachment(known))
            user_id = person.user_id
            if self._typists.get(user_id) is None and user_id not in told:
                told.add(user_id)
                state = protocol.TypingState(
                    self._id, user_id, person.display_name, False
                )
                effects.append(Broadcast(protocol.encode(state), user_id))
        return effects

    def _attachment(self, person: Person, conn: str) -> Attachment:
        typist = self._typists.get(person.user_id)
        typing = typist is not None and typist.shown and typist.conn == conn
        return person.attachment(conn, typing)

    # The alarm.

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due: stop typists, tell who is here. Early calls do nothing."""
        effects: list[Effect] = []
        typing_at = self._typists.alarm_at
        if typing_at is not None and typing_at <= now:
            effects += self._show_typing(self._typists.alarm(now))
        told = self._roll_call.alarm(now)
        if any(type(effect) is Broadcast for effect in told):
            self.holders.told()
        return effects + told

    # Sleep and wake.

    def snapshot(self) -> bytes:
        """The room at rest, for `restore`. Typing is not in it: it has timers."""
        return mirror.encode(
            mirror.RoomSnapshot(
                self.seq,
                self._timestamp,
                self._history.snapshot(),
                self._rates["chat"].snapshot(),
                self._rates["nudge"].snapshot(),
                {},
                self._roster.snapshot(),
                self.holders.snapshot(),
                self._roll_call.pending,
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
        room = cls(room_id, rules, life)
        saved = mirror.decode(snapshot)
        if saved is None:
            return room
        room.seq, room._timestamp = saved.seq, saved.timestamp
        room._read_marks = dict(saved.read_marks)
        room._history.restore(saved.messages)
        room._rates["chat"].restore(saved.chats)
        room._rates["nudge"].restore(saved.nudges)
        room.holders.restore(saved.gateways, clean)
        if clean:
            room._roster.restore(saved.roster)
            room._remembers = True
            if saved.stale:
                room._roll_call.everyone_soon(saved.timestamp)
        return room

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
        self._time(at)
        said = fingerprint(found)
        self._history.add(epoch, seq, sender_id, found.id, at, event, said)
        self._history.forget(now)
        if not isinstance(found, UnknownEvent):
            # The writer's clock may have been ahead.
            self._rates[found.rate].record(sender_id, min(at, now))


def _repeated(frame: DurableFrame, kept: Kept, room_id: str) -> Event:
    at = kept.timestamp
    return compose(frame, kept.id, room_id, kept.sender_id, "", at, kept.seq)


def _rates(rate: tuple[int, int]) -> UserRates:
    count, seconds = rate
    return UserRates(count, seconds * 1_000)
