"""Members: how people come into a room and go, and who is told.

Owns wire.md §3's lines "joined" and "left", which group rooms show unless they are a
crowd, and that all sockets of a user, on whichever gateway, bring and learn the newest
of them. Must not know what is said, nor the history.
"""

from ..wire import protocol
from .crowd import Crowd
from .effects import (
    Attachment,
    Broadcast,
    Effect,
    KeepAttachment,
    Roll,
    Send,
    Subscribe,
)
from .holders import Holders
from .rollcall import RollCall
from .room_time import RoomTime
from .roster import Person, Roster
from .typing_indicator import TypingIndicator


class Members:
    """Of one room. `roll_call` has the alarm."""

    def __init__(
        self,
        room_id: str,
        direct: bool,
        roster: Roster,
        holders: Holders,
        typing: TypingIndicator,
        time: RoomTime,
        crowd: Crowd,
    ) -> None:
        self.roll_call = RollCall(room_id, roster, crowd)
        self._room_id = room_id
        self._direct = direct
        self._roster = roster
        self._holders = holders
        self._typing = typing
        self._time = time
        # By connection: news of its own arrival, from `keep_for` until `caught_up` or
        # it is gone.
        self._late: dict[str, list[Send]] = {}
        # The roster was restored, so whoever is not in it joins; for this life.
        self._remembers = False

    def line(self, now: int, content: str) -> bytes:
        """A frame in which the room itself says something."""
        at = self._time.at(now)
        return protocol.encode(protocol.System(content, at, self._room_id))

    def enter(
        self, now: int, attachment: Attachment, announce: bool = True
    ) -> list[Effect]:
        """A socket is here; if its user was not, that is said to the others.

        `announce`: it came, and was not here before a crash.
        """
        effects: list[Effect] = []
        person, arrived = self._roster.join(attachment)
        learned = not arrived and person.learn(attachment)
        known = person.attachment(attachment.conn, attachment.typing)
        if known != attachment:
            effects.append(KeepAttachment(known))
        if arrived and announce:
            if not self.roll_call.crowded:
                effects += self._announce(now, person, "joined")
            self.roll_call.arrived(now, attachment.conn)
        elif arrived:
            self.roll_call.everyone_soon(now)
        else:
            if learned:
                effects += self._taught(now, person, attachment.conn)
            self.roll_call.one_soon(now, attachment.conn)
        return effects

    def keep_for(self, conn: str, entered: list[Effect]) -> None:
        """A socket that is still catching up is to see the news of its own arrival, and
        who is here only when it has."""
        self.roll_call.not_yet(conn)
        lines = [Send((conn,), e.frame) for e in entered if type(e) is Broadcast]
        if lines:
            self._late[conn] = lines

    def caught_up(self, conn: str) -> list[Send]:
        """What was kept for it."""
        return self._late.pop(conn, [])

    def leave(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        self._late.pop(conn, None)
        crowded = self.roll_call.crowded  # as it was when whoever goes now came
        left = self._roster.leave(conn)
        if left is None:
            return []
        person, gone = left
        effects = self._typing.stop(now, person.user_id, conn)
        if gone:
            if not crowded:
                effects += self._announce(now, person, "left")
            self.roll_call.everyone_soon(now)
        return effects

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway tells which sockets it holds here; this is not joining.

        `attachments` is its whole set. Only the difference to a remembered roster is
        announced; after a crash there is none, and `participants` alone goes out.
        """
        announce = self._remembers or gateway in self._holders.gateways
        conns = tuple(attachment.conn for attachment in attachments)
        effects: list[Effect] = []
        if conns:
            effects.append(Subscribe(conns))
        held = self._roster.held_by(gateway)
        slept = self._holders.attach(gateway)
        for attachment in attachments:
            conn = attachment.conn
            person = self._roster.conns.get(conn)
            if person is None:
                effects += self.enter(now, attachment, announce)
                continue
            if person.learn(attachment):
                effects += self._taught(now, person, conn)
            elif not slept:
                self.roll_call.again_soon(now, conn)
            if person.ahead_of(attachment):
                effects.append(KeepAttachment(self._typing.attachment(person, conn)))
        still = set(conns)
        for conn in held:
            if conn not in still:
                effects += self.leave(now, conn)
        return effects + self._typing.silence(attachments)

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets leave."""
        self._holders.detach(gateway)
        effects: list[Effect] = []
        for conn in self._roster.held_by(gateway):
            effects += self.leave(now, conn)
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
        self.roll_call.everyone_soon(now)
        attachment = self._typing.attachment
        others = [other for other in person.conns if other != conn]
        return [KeepAttachment(attachment(person, other)) for other in others]

    def _announce(self, now: int, person: Person, did: str) -> list[Effect]:
        if self._direct:
            return []
        line = f"{person.display_name} {did} the room."
        return [Broadcast(self.line(now, line))]

    def alarm(self, now: int) -> list[Effect]:
        """Tell who is here, if it is time."""
        told = self.roll_call.alarm(now)
        for each in told:
            if type(each) is Broadcast or (type(each) is Roll and each.conns is None):
                self._holders.told()
        return told

    def restore(self, roster: list[Attachment], stale: bool, timestamp: int) -> None:
        """As they were; `stale`: that changed at the last, and nobody was told."""
        self._roster.restore(roster)
        self._remembers = True
        if stale:
            self.roll_call.everyone_soon(timestamp)
