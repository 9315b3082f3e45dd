"""Presence: the PresenceRoom Durable Object as a pure state machine.

Owns who is online (wire.md §4): a user is while any room or presence socket of theirs
is open, and `offline` sent by the user means shown offline. It owns everybody's status:
rooms show what it says, and every choice has a number, higher than that of the choice
before it. Names are the user's row's, and come with the sockets. Changes within 50 ms
travel together, so that a storm of joins costs each socket one frame and not one for
every other socket. It has no durable events: what it knows comes from the gateways.

Must not know a clock, sockets or storage.
"""

from collections.abc import Collection
from typing import Self

import msgspec
from msgspec.structs import replace

from ..errors import ProtocolError
from ..ids import gateway_of
from ..wire import protocol
from ..wire.protocol import Participant, PresenceUpdate, Status
from .effects import (
    Attachment,
    Broadcast,
    DirectMessage,
    Effect,
    KeepAttachment,
    Published,
    Record,
    Send,
    StatusChanged,
    Subscribe,
    decode_notification,
)
from .machine import BLANK, Life, Machine
from .roster import Person, Roster

COALESCE_MS = 50
BURST = 8
"""More changes than this travel as one partial full sync."""
CHOSEN_MS = 90_000
"""A chosen status outlives its user's last socket by this."""


class Chosen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a user without sockets chose. `at`: the number of the choice; `until`: when
    it is forgotten, in ms."""

    status: Status
    at: int
    until: int


class _Snapshot(msgspec.Struct, frozen=True, gc=False, tag=2):
    roster: list[Attachment]
    gateways: list[str]
    chosen: dict[str, Chosen]
    shown: list[Participant]
    changed: list[str]
    untold: list[str]
    due: int | None
    choices: int
    published: dict[str, list[Participant]] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


class Presence(Machine):
    """Everyone who is online, and the sockets that watch. `seq` stays 0."""

    def __init__(self, life: Life = BLANK) -> None:
        """A registry that remembers nobody."""
        super().__init__(life)
        self._roster = Roster()
        # By user who has no socket: the latest choice, until a socket opens or `until`,
        # in whose order they are.
        self._chosen: dict[str, Chosen] = {}
        self._choices = 0  # the number of the last one
        # By guest and id: whom that guest wants shown; until it publishes others.
        self._published: dict[str, dict[str, Participant]] = {}
        # By user: what watchers were told last; and who may differ from that, until the
        # next tick.
        self._shown: dict[str, Participant] = {}
        self._changed: dict[str, None] = {}
        # Until the next tick: watchers that wait for their full sync, and the frames
        # that wait behind it, by connection.
        self._untold: dict[str, None] = {}
        self._held: list[tuple[str, bytes]] = []
        self._due: int | None = None  # the next tick, in ms; None: there is none

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, in ms; None: no timer is running."""
        return self._due

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
    ) -> list[Effect]:
        """A socket opens. A watcher is greeted now; its full sync is the next tick's.

        `since` and `greeted` mean nothing here.
        """
        conn = attachment.conn
        self.gateways.add(gateway_of(conn))
        effects = self._enter(now, attachment)
        if attachment.watch:
            hello = protocol.System("Connected to Global Presence", now)
            effects.append(Send((conn,), protocol.encode(hello)))
            self._sync_soon(now, conn)
        return effects

    def close(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        left = self._roster.leave(conn)
        self._untold.pop(conn, None)
        if left is None or not left[1]:
            return []
        person = left[0]
        self._changed[person.user_id] = None
        self._tick_soon(now)
        if person.status_at:
            self._choose(now, person.user_id, person.status, person.status_at)
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

        Its watchers get a full sync, unless presence only slept: then none changed.
        """
        conns = self._roster.conns
        held = self._roster.held_by(gateway)
        still = {attachment.conn for attachment in attachments}
        slept = self.holders.attach(gateway)
        effects: list[Effect] = []
        unchanged = []
        for attachment in attachments:
            known = slept and attachment.conn in conns
            effects += self._enter(now, attachment)
            if known:
                unchanged.append(attachment.conn)
            elif attachment.watch:
                self._sync_soon(now, attachment.conn)
        for conn in held:
            if conn not in still:
                effects += self.close(now, conn)
        watching = [c for c in unchanged if self._watches(c) and c not in self._untold]
        if watching:
            effects.append(Subscribe(tuple(watching)))
        return effects

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets are gone."""
        self.holders.detach(gateway)
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
            chosen = self._chosen.pop(user_id, None)
            if chosen is not None and chosen.until > now:
                person.choose(chosen.status, chosen.at)
            effects.append(_record(person))
            self._changed[user_id] = None
            self._tick_soon(now)
        known = person.attachment(conn)
        if known != attachment:
            effects.append(KeepAttachment(known))
        return effects

    def _changed_now(self, now: int, person: Person) -> list[Effect]:
        """Every gateway that holds a socket of theirs learns it, and tells its room."""
        self._changed[person.user_id] = None
        self._tick_soon(now)
        effects: list[Effect] = [
            KeepAttachment(person.attachment(c)) for c in person.conns
        ]
        effects.append(_record(person))
        return effects

    def _watches(self, conn: str) -> bool:
        return self._roster.conns[conn].conns[conn]

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
        return self._set(now, person, frame.status)

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """Another object or a gateway tells: a status was chosen, a message said."""
        try:
            told = decode_notification(notification)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # of another version; these are best effort
        if isinstance(told, DirectMessage):
            return self._pass_on(told)
        if isinstance(told, Published):
            self._publish(now, told)
            return []
        if not isinstance(told, StatusChanged):
            return []
        person = self._roster.people.get(told.user_id)
        if person is None:
            # `POST /api/presence` before connecting.
            at = self._next_choice()
            self._choose(now, told.user_id, told.status, at)
            return [Record(told.user_id, told.status, at, here=False)]
        # Who says it again has perhaps not found it written.
        return self._set(now, person, told.status) or [_record(person)]

    def _publish(self, now: int, told: Published) -> None:
        """They come and go like people, but hold no socket."""
        before = self._published.get(told.source, {})
        after = {each.id: each for each in told.shown}
        if after != before:
            self._changed |= dict.fromkeys([*before, *after])
            self._published[told.source] = after
            self._tick_soon(now)

    def _set(self, now: int, person: Person, status: Status) -> list[Effect]:
        if status == person.status:
            return []
        person.choose(status, self._next_choice())
        return self._changed_now(now, person)

    def _next_choice(self) -> int:
        # The epoch makes it higher than any choice of an earlier life.
        self._choices = max(self._choices, self.epoch << 32) + 1
        return self._choices

    def _choose(self, now: int, user_id: str, status: Status, at: int) -> None:
        """Keep a choice for 90 s. No alarm ends it: what is over is removed here."""
        self._chosen.pop(user_id, None)  # the dict is in the order of `until`
        self._chosen[user_id] = Chosen(status, at, now + CHOSEN_MS)
        while next(iter(self._chosen.values())).until <= now:
            del self._chosen[next(iter(self._chosen))]

    def _pass_on(self, told: DirectMessage) -> list[Effect]:
        note = protocol.MessageNotification(msgspec.Raw(told.message))
        frame = protocol.encode(note)
        ready: list[str] = []
        for user_id in told.user_ids:
            person = self._roster.people.get(user_id)
            if person is None:
                continue
            for conn, watching in person.conns.items():
                if conn in self._untold:
                    self._held.append((conn, frame))
                elif watching:
                    ready.append(conn)
        return [Send(tuple(ready), frame)] if ready else []

    # The alarm: one tick for all that changed within 50 ms.

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due: tell the changes. Early is fine."""
        if self._due is None or self._due > now:
            return []
        self._due = None
        effects = self._tell_changes()
        if self._untold:
            conns = tuple(self._untold)
            full = protocol.PresenceFullSync(list(self._shown.values()))
            effects += [Send(conns, protocol.encode(full)), Subscribe(conns)]
            held = [(c, frame) for c, frame in self._held if c in self._untold]
            effects += [Send((conn,), frame) for conn, frame in held]
            self._untold.clear()
        self._held.clear()
        return effects

    def _tell_changes(self) -> list[Effect]:
        changes = []
        for user_id in self._changed:
            before, after = self._shown.get(user_id), self._visible(user_id)
            if before == after:
                continue
            if after is None:
                assert before is not None
                del self._shown[user_id]
                after = replace(before, status="offline")
            else:
                self._shown[user_id] = after
            changes.append((before, after))
        self._changed.clear()
        if changes:
            self.holders.told()
        if len(changes) > BURST:
            all_of_them = [after for _, after in changes]
            sync = protocol.PresenceFullSync(all_of_them, partial=True)
            return [Broadcast(protocol.encode(sync))]
        return [
            Broadcast(protocol.encode(frame))
            for before, after in changes
            for frame in _frames(before, after)
        ]

    def _visible(self, user_id: str) -> Participant | None:
        for shown in self._published.values():
            if user_id in shown:
                return shown[user_id]
        person = self._roster.people.get(user_id)
        # "`offline` sent by the user means shown offline."
        if person is None or person.status == "offline":
            return None
        return person.participant()

    def _sync_soon(self, now: int, conn: str) -> None:
        self._untold[conn] = None
        self._tick_soon(now)

    def _tick_soon(self, now: int) -> None:
        if self._due is None:
            self._due = now + COALESCE_MS

    # Sleep and wake.

    def snapshot(self) -> bytes:
        """The registry, for `restore`."""
        return _encode(
            _Snapshot(
                self._roster.snapshot(),
                self.holders.snapshot(),
                self._chosen,
                list(self._shown.values()),
                list(self._changed),
                list(self._untold),
                self._due,
                self._choices,
                {name: list(s.values()) for name, s in self._published.items()},
            )
        )

    @classmethod
    def restore(
        cls,
        snapshot: bytes,
        clean: bool,
        sources: Collection[str] = (),
        life: Life = BLANK,
    ) -> Self:
        """The registry as it was; after a crash (`clean=False`) choices and what guests
        published alone. Of guests that are not among `sources` nobody would send away
        whom they had shown, so these leave at once.

        A snapshot of another version gives a registry that remembers nobody.
        """
        presence = cls(life)
        try:
            saved = _decode(snapshot)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return presence
        presence._chosen, presence._choices = saved.chosen, saved.choices
        presence._published = {
            source: {each.id: each for each in shown}
            for source, shown in saved.published.items()
            if source in sources
        }
        known = [i for shown in presence._published.values() for i in shown]
        presence._changed = dict.fromkeys(known)
        presence.holders.restore(saved.gateways, clean)
        if clean:
            presence._roster.restore(saved.roster)
            presence._shown = {shown.id: shown for shown in saved.shown}
            presence._changed = dict.fromkeys(saved.changed)
            presence._untold = dict.fromkeys(saved.untold)
            presence._due = saved.due
            there = {*known, *presence._roster.people}
            if strays := [i for i in presence._shown if i not in there]:
                presence._changed |= dict.fromkeys(strays)
                presence._due = saved.due or 0
        return presence


def _record(person: Person) -> Record:
    here = bool(person.conns)
    return Record(person.user_id, person.status, person.status_at, here)


def _frames(
    before: Participant | None, after: Participant
) -> list[protocol.PresenceJoin | PresenceUpdate]:
    words = after.personal_message, after.avatar_id
    update = PresenceUpdate(after.id, after.display_name, after.status, *words)
    if before is not None:
        return [update]
    join = protocol.PresenceJoin(after.id, after.display_name, *words)
    # A join carries no status: it means online.
    return [join] if after.status == "online" else [join, update]
