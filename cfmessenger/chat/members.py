"""Members: how people come into a room and go, and who is told.

Owns wire.md §3's lines "joined" and "left", which group rooms show unless they are a
crowd, and that all sockets of a user, on whichever gateway, bring and learn the newest
of them. After a crash a room does not know how many people it has before its gateways
are back, so its lines wait for that. Must not know what is said, nor the history.
"""

from collections import deque
from typing import Final, NamedTuple

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

UNSAID: Final = 1000
"""Lines that wait until it is known whether the room is a crowd; older ones go."""


class Line(NamedTuple):
    """Somebody came (`people` 1) with this connection, or left with it (-1)."""

    people: int
    conn: str
    user_id: str
    name: str


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
        self._crowd = crowd
        # By connection: news of its own arrival, from `keep_for` until `caught_up` or
        # it is gone.
        self._late: dict[str, list[Send]] = {}
        # Until no gateway is awaited: lines of which nobody knows whether they are to
        # be told, oldest first.
        self._unsaid: deque[Line] = deque(maxlen=UNSAID)
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
            effects += self._announce(now, person, attachment.conn, 1)
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
        self._late.setdefault(conn, [])
        self._keep_lines(conn, entered)

    def _keep_lines(self, conn: str, entered: list[Effect]) -> None:
        lines = [Send((conn,), e.frame) for e in entered if type(e) is Broadcast]
        self._late[conn] += lines

    def caught_up(self, conn: str) -> list[Send]:
        """What was kept for it."""
        return self._late.pop(conn, [])

    def leave(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        self._late.pop(conn, None)
        left = self._roster.leave(conn)
        if left is None:
            return []
        person, gone = left
        effects = self._typing.stop(now, person.user_id, conn)
        if gone:
            effects += self._announce(now, person, conn, -1)
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
        if self._unsaid and not announce:
            self._were_here({each.user_id for each in attachments})
        effects += self._typing.silence(attachments)
        return effects + self._settle_if_all_are_here(now)

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead: its sockets leave."""
        self._holders.detach(gateway)
        effects: list[Effect] = []
        for conn in self._roster.held_by(gateway):
            effects += self.leave(now, conn)
        return effects + self._settle_if_all_are_here(now)

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

    # Lines.

    def _announce(
        self, now: int, person: Person, conn: str, people: int
    ) -> list[Effect]:
        if self._direct:
            return []
        line = Line(people, conn, person.user_id, person.display_name)
        if self._holders.awaited:
            self._unsaid.append(line)
            return []
        return self._told(now, line, len(self._roster.people))

    def _told(self, now: int, line: Line, people: int) -> list[Effect]:
        """A line, after which there are so many; none in a crowd, which for whoever has
        left is the one in which they were."""
        if self._crowd.holds(people + (line.people < 0)):
            return []
        did = "joined" if line.people > 0 else "left"
        return [Broadcast(self.line(now, f"{line.name} {did} the room."))]

    def _were_here(self, user_ids: set[str]) -> None:
        """These people were here before the crash, and still are: what seemed to be
        their coming or leaving was a tab's."""
        kept = [line for line in self._unsaid if line.user_id not in user_ids]
        self._unsaid = deque(kept, UNSAID)

    def _settle_if_all_are_here(self, now: int) -> list[Effect]:
        if not self._unsaid or self._holders.awaited:
            return []
        return self.settle(now)

    def settle(self, now: int) -> list[Effect]:
        """Nobody is awaited: what was left unsaid is told, unless it was of a crowd or
        would be told in one.

        How many there were at each line follows from how many there are now, for who
        came with an attach had been here all along.
        """
        if self.roll_call.crowded:
            self._unsaid.clear()
        people, told = len(self._roster.people), list[tuple[Line, int]]()
        while self._unsaid:
            line = self._unsaid.pop()
            told.append((line, people))
            people -= line.people
        effects: list[Effect] = []
        for line, there in reversed(told):
            entered = self._told(now, line, there)
            if line.people > 0 and line.conn in self._late:
                self._keep_lines(line.conn, entered)
            effects += entered
        return effects

    # The alarm, sleep and wake.

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
