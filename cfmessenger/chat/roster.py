"""Roster: who is here, by user and by connection.

Owns the rule that people are counted, not tabs: a user arrives with the first
connection and leaves with the last, and all their connections share one name and one
status: the newest that any attachment brought. Used by rooms and by presence. Must not
decide what anyone is told.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
from msgspec import UNSET

from ..ids import gateway_of
from ..wire.protocol import Participant, Status
from .effects import Attachment


class Person(msgspec.Struct):
    """A user who is here. `conns` maps each connection to whether it watches.

    `words_at` and `status_at` are numbers, as in `Attachment`.
    """

    user_id: str
    display_name: str
    status: Status
    personal_message: str | None
    avatar_id: str | None
    words_at: int
    status_at: int
    conns: dict[str, bool]

    def learn(self, told: Attachment) -> bool:
        """Take those words and that status that are newer; true if any were."""
        words = told.words_at > self.words_at
        if words:
            self.words_at = told.words_at
            self.display_name = told.display_name
            self.personal_message = told.personal_message
            self.avatar_id = told.avatar_id
        return self.choose(told.status, told.status_at) or words

    def choose(self, status: Status, status_at: int) -> bool:
        """Take a status if it is newer; true if it was."""
        newer = status_at > self.status_at
        if newer:
            self.status, self.status_at = status, status_at
        return newer

    def ahead_of(self, told: Attachment) -> bool:
        """Whether what is known here is newer, in words or in status."""
        return self.words_at > told.words_at or self.status_at > told.status_at

    def attachment(self, conn: str, typing: bool = False) -> Attachment:
        """What the gateway should keep for this connection."""
        return Attachment(
            conn,
            self.user_id,
            self.display_name,
            self.status,
            typing,
            self.conns[conn],
            self.personal_message,
            self.avatar_id,
            self.words_at,
            self.status_at,
        )


def participant(who: Person | Attachment) -> Participant:
    """How lists of people show somebody."""
    return Participant(
        who.user_id,
        who.display_name,
        who.status,
        who.personal_message or UNSET,
        who.avatar_id or UNSET,
    )


class Roster:
    """The people here. `conns`: connection → person; `people`: user id → person."""

    def __init__(self) -> None:
        self.conns: dict[str, Person] = {}
        self.people: dict[str, Person] = {}

    def join(self, attachment: Attachment) -> tuple[Person, bool]:
        """Add a connection; true if its user was not here.

        A user who is here keeps the name and status they have, until they `learn`.
        """
        user_id, conn = attachment.user_id, attachment.conn
        person = self.people.get(user_id)
        arrived = person is None
        if person is None:
            person = self.people[user_id] = Person(
                user_id,
                attachment.display_name,
                attachment.status,
                attachment.personal_message,
                attachment.avatar_id,
                attachment.words_at,
                attachment.status_at,
                {},
            )
        person.conns[conn] = attachment.watch
        self.conns[conn] = person
        return person, arrived

    def leave(self, conn: str) -> tuple[Person, bool] | None:
        """Remove a connection; true if its user is gone, None if it was unknown."""
        person = self.conns.pop(conn, None)
        if person is None:
            return None
        del person.conns[conn]
        gone = not person.conns
        if gone:
            del self.people[person.user_id]
        return person, gone

    def latest(self, count: int) -> list[Person]:
        """Who arrived last, in order of arrival."""
        newest = list(islice(reversed(self.people.values()), count))
        newest.reverse()
        return newest

    def held_by(self, gateway: str) -> list[str]:
        """The connections of one gateway."""
        return [conn for conn in self._in_order() if gateway_of(conn) == gateway]

    def snapshot(self) -> list[Attachment]:
        """Every connection, for `restore`."""
        return [self.conns[conn].attachment(conn) for conn in self._in_order()]

    def _in_order(self) -> Iterator[str]:
        # By their users' arrival: the order that a snapshot can keep.
        return (conn for person in self for conn in person.conns)

    def restore(self, attachments: Sequence[Attachment]) -> None:
        """Fill an empty roster from a snapshot."""
        for attachment in attachments:
            self.join(attachment)

    def __iter__(self) -> Iterator[Person]:
        """The people, in order of arrival."""
        return iter(self.people.values())
