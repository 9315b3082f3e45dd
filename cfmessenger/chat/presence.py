"""Presence: the PresenceRoom Durable Object as a pure state machine.

Owns who is online (wire.md §4): a user is while any room or presence socket of theirs
is open, and `offline` sent by the user means shown offline. It owns everybody's status:
rooms show what it says, and every choice has a number, higher than that of the choice
before it. Names are the user's row's, and come with the sockets. It has no durable
events: what it knows comes from the gateways.

Who hears of whom is decided by gateway: which of its sockets wants it, a gateway knows
itself (`cfmessenger/link/onlookers.py`). Must not know a clock, sockets or storage. Its
parts are `roster`, `choices`, `publications`, `watchers` and `interests`.
"""

from collections.abc import Collection
from typing import Self

import msgspec

from ..errors import ProtocolError
from ..ids import gateway_of
from ..wire import protocol
from ..wire.protocol import Participant, Status
from .choices import Choices, Chosen
from .effects import (
    Acquainted,
    Attachment,
    DirectMessage,
    Effect,
    KeepAttachment,
    Meet,
    Published,
    Record,
    Send,
    StatusChanged,
    Wants,
    decode_notification,
)
from .interests import USUAL_ALL, Interests
from .machine import BLANK, Life, Machine
from .mirror import Snapshots
from .publications import Publications
from .roster import Person, Roster, participant
from .watchers import Watchers


class _Snapshot(msgspec.Struct, frozen=True, gc=False, tag=2):
    roster: list[Attachment]
    gateways: list[str]
    chosen: dict[str, Chosen]
    shown: list[Participant]
    changed: list[str]
    due: int | None
    choices: int
    published: dict[str, list[Participant]] = {}
    crowded: bool = False


_encode = msgspec.msgpack.Encoder().encode
_snapshots = Snapshots(_Snapshot, first=2)
is_later = _snapshots.is_later


class Presence(Machine):
    """Everyone who is online, and the sockets that watch. `seq` stays 0."""

    def __init__(self, life: Life = BLANK, most: int = USUAL_ALL) -> None:
        """A registry that remembers nobody. With more than `most` people online it is a
        crowd."""
        super().__init__(life)
        self._roster = Roster()
        self._choices = Choices(life.epoch)
        self._publications = Publications()
        self._interests = Interests(most)
        self._watchers = Watchers(self._interests, life.crashed)

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, in ms; None: no timer is running."""
        return self._watchers.due

    @property
    def sockets(self) -> int:
        """How many connections are in the roster."""
        return len(self._roster.conns)

    # Connections.

    def connect(
        self,
        now: int,
        attachment: Attachment,
        since: int | None = None,
        greeted: bool = False,
        era: int | None = None,
    ) -> list[Effect]:
        """A socket opens. A watcher is greeted now; its full sync is the gateway's,
        after the next tick.

        `since`, `greeted` and `era` mean nothing here.
        """
        conn = attachment.conn
        self.gateways.add(gateway_of(conn))
        effects = self._enter(now, attachment)
        if attachment.watch:
            hello = protocol.System("Connected to Global Presence", now)
            effects.append(Send((conn,), protocol.encode(hello)))
            self._watchers.sync_soon(now, conn)
        return effects

    def close(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        left = self._roster.leave(conn)
        self._watchers.forget(conn)
        if left is None or not left[1]:
            return []
        person = left[0]
        self._watchers.change(now, person.user_id)
        if person.status_at:
            self._choices.keep(now, person.user_id, person.status, person.status_at)
        return [_record(person)]

    def change(self, now: int, attachment: Attachment) -> list[Effect]:
        """A gateway has newer words of somebody, or remembers a newer choice."""
        person = self._roster.conns.get(attachment.conn)
        if person is None or not person.learn(attachment):
            return []
        return self._changed_now(now, person)

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway tells which sockets it holds; `attachments` is its whole set.

        Of whom they want to hear it says behind that (`want`).
        """
        held = self._roster.held_by(gateway)
        still = {attachment.conn for attachment in attachments}
        self.holders.attach(gateway)
        self._interests.forget(gateway)
        effects: list[Effect] = []
        for attachment in attachments:
            effects += self._enter(now, attachment)
        for conn in held:
            if conn not in still:
                effects += self.close(now, conn)
        return effects

    def want(self, now: int, gateway: str, wants: Wants) -> None:
        """A gateway's sockets want to hear of these people. The next tick tells it how
        they are shown, and then of each change, in that order."""
        self._interests.take(gateway, wants)
        self._watchers.tick_soon(now)

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets are gone."""
        self.holders.detach(gateway)
        self._interests.forget(gateway)
        effects: list[Effect] = []
        for conn in self._roster.held_by(gateway):
            effects += self.close(now, conn)
        return effects

    def _enter(self, now: int, attachment: Attachment) -> list[Effect]:
        user_id, conn = attachment.user_id, attachment.conn
        person, arrived = self._roster.join(attachment)
        if not arrived and person.learn(attachment):
            return self._changed_now(now, person)
        effects: list[Effect] = []
        if arrived:
            chosen = self._choices.take(now, user_id)
            if chosen is not None:
                person.choose(chosen.status, chosen.at)
            effects.append(_record(person))
            self._watchers.change(now, user_id)
        known = person.attachment(conn)
        if known != attachment:
            effects.append(KeepAttachment(known))
        return effects

    def _changed_now(self, now: int, person: Person) -> list[Effect]:
        """Every gateway that holds a socket of theirs learns it, and tells its room."""
        self._watchers.change(now, person.user_id)
        effects: list[Effect] = [
            KeepAttachment(person.attachment(c)) for c in person.conns
        ]
        effects.append(_record(person))
        return effects

    # Statuses and notifications.

    def message(
        self, now: int, conn: str, data: bytes, fresh_id: str = ""
    ) -> list[Effect]:
        """A presence socket sent `data`, or a gateway a status that was said in a room.

        Nothing here needs `fresh_id`. Names have been taken out by the gateway.
        """
        person = self._roster.conns.get(conn)
        if person is None:
            return []
        try:
            frame = protocol.decode_presence_frame(data)
        except ProtocolError as error:
            return [Send((conn,), protocol.error_frame(error), fault=True)]
        if isinstance(frame, protocol.Ping):
            return [Send((conn,), protocol.encode(protocol.Pong(now, frame.t)))]
        if isinstance(frame, protocol.UpdatePresence):
            return self._set(now, person, frame.status)
        return []  # whom it watches is its gateway's

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """Another object or a gateway tells: a status was chosen, a message said."""
        try:
            told = decode_notification(notification)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # of another version; these are best effort
        if isinstance(told, DirectMessage):
            return self._pass_on(told)
        if isinstance(told, Acquainted):
            return self._acquaint((told.user_id,), (told.user_id, told.other_id))
        if isinstance(told, Published):
            if changed := self._publications.publish(told):
                self._watchers.change(now, *changed)
            return []
        if not isinstance(told, StatusChanged):
            return []
        person = self._roster.people.get(told.user_id)
        if person is None:
            # `POST /api/presence` before connecting.
            at = self._choices.number()
            self._choices.keep(now, told.user_id, told.status, at)
            return [Record(told.user_id, told.status, at, here=False)]
        # Who says it again has perhaps not found it written.
        return self._set(now, person, told.status) or [_record(person)]

    def _set(self, now: int, person: Person, status: Status) -> list[Effect]:
        if status == person.status:
            return []
        person.choose(status, self._choices.number())
        return self._changed_now(now, person)

    def _pass_on(self, told: DirectMessage) -> list[Effect]:
        note = protocol.MessageNotification(msgspec.Raw(told.message))
        frame = protocol.encode(note)
        ready: list[str] = []
        untold = self._watchers.untold
        for user_id in told.user_ids:
            person = self._roster.people.get(user_id)
            if person is None:
                continue
            for conn, watching in person.conns.items():
                if conn in untold:
                    self._watchers.hold(conn, frame)
                elif watching:
                    ready.append(conn)
        effects: list[Effect] = [Send(tuple(ready), frame)] if ready else []
        if len(told.user_ids) == 2:
            first, second = told.user_ids
            effects += self._acquaint(told.user_ids, (first, second))
        return effects

    def _acquaint(
        self, whose: Collection[str], user_ids: tuple[str, str]
    ) -> list[Effect]:
        """The watching sockets of some of two people who have a direct room."""
        people = (self._roster.people.get(user_id) for user_id in whose)
        conns = [
            conn
            for person in people
            if person is not None
            for conn, watching in person.conns.items()
            if watching
        ]
        return [Meet(tuple(conns), user_ids)] if conns else []

    # The alarm: one tick for all that changed within 50 ms.

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due: tell the changes. Early is fine."""
        return self._watchers.alarm(now, self._visible, self._publications.ids)

    def _visible(self, user_id: str) -> Participant | None:
        shown = self._publications.find(user_id)
        if shown is not None:
            return shown
        person = self._roster.people.get(user_id)
        # "`offline` sent by the user means shown offline."
        if person is None or person.status == "offline":
            return None
        return participant(person)

    # Sleep and wake.

    def snapshot(self) -> bytes:
        """The registry, for `restore`."""
        watchers = self._watchers
        chosen, last_choice = self._choices.snapshot()
        return _encode(
            _Snapshot(
                self._roster.snapshot(),
                self.holders.snapshot(),
                chosen,
                list(watchers.shown.values()),
                list(watchers.changed),
                watchers.due,
                last_choice,
                self._publications.snapshot(),
                self._interests.crowded,
            )
        )

    @classmethod
    def restore(
        cls,
        snapshot: bytes,
        clean: bool,
        sources: Collection[str] = (),
        life: Life = BLANK,
        most: int = USUAL_ALL,
    ) -> Self:
        """The registry as it was; after a crash (`clean=False`) choices and what guests
        published alone. Of guests that are not among `sources` nobody would send away
        whom they had shown, so these leave at once.

        Of whom gateways want to hear they say themselves. A snapshot of another version
        gives a registry that remembers nobody.
        """
        saved = _snapshots.decode(snapshot)
        if saved is None:
            return cls(life.unremembered, most)
        presence = cls(life, most)
        presence._choices.restore(saved.chosen, saved.choices)
        presence._publications.restore(saved.published, sources)
        known = presence._publications.ids
        presence.holders.restore(saved.gateways, clean)
        if not clean:
            presence._watchers.crashed(known)
            return presence
        presence._roster.restore(saved.roster)
        presence._interests.crowded = saved.crowded
        presence._watchers.restore(
            saved.shown,
            saved.changed,
            saved.due,
            there=[*known, *presence._roster.people],
        )
        return presence


def _record(person: Person) -> Record:
    here = bool(person.conns)
    return Record(person.user_id, person.status, person.status_at, here)
