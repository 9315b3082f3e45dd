"""Typing indicator: who types, as sockets and gateways are told it.

Owns the frames of what `typists` decides, and that a gateway remembers of the
connection that typed last that it is shown as typing: so that after a crash, when all
timers are gone, it can be said that nobody types. Must not know who comes or goes.
"""

from collections.abc import Iterable

from ..wire import protocol
from .crowd import Crowd
from .effects import Attachment, Broadcast, Effect, KeepAttachment
from .roster import Person, Roster
from .typists import Typist, Typists


class TypingIndicator:
    """Of one room. `typists` has the alarm."""

    def __init__(self, room_id: str, roster: Roster, crowd: Crowd) -> None:
        self.typists = Typists(crowd.typists)
        self._room_id = room_id
        self._roster = roster
        self._crowd = crowd

    def report(
        self, now: int, conn: str, person: Person, is_typing: bool
    ) -> list[Effect]:
        """A socket said so."""
        user_id, name = person.user_id, person.display_name
        before = self.typists.get(user_id)
        shown_on = before.conn if before is not None and before.shown else conn
        effects = self._report(now, user_id, name, conn, is_typing)
        if is_typing and shown_on != conn:
            moved = [shown_on, conn] if shown_on in person.conns else [conn]
            effects += [KeepAttachment(self.attachment(person, c)) for c in moved]
        return effects

    def report_socketless(
        self, now: int, user_id: str, display_name: str, is_typing: bool
    ) -> list[Effect]:
        """Somebody without a socket types, or does not."""
        return self._report(now, user_id, display_name, "", is_typing)

    def _report(
        self, now: int, user_id: str, name: str, conn: str, is_typing: bool
    ) -> list[Effect]:
        crowded = self._crowd.holds(len(self._roster.people))
        report = self.typists.report
        return self._show(report(now, user_id, name, conn, is_typing, crowded))

    def stop(self, now: int, user_id: str, conn: str) -> list[Effect]:
        """A connection of this user has closed."""
        return self._show(self.typists.stop(now, user_id, conn))

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due. Early calls do nothing."""
        at = self.typists.alarm_at
        if at is None or at > now:
            return []
        return self._show(self.typists.alarm(now))

    def attachment(self, person: Person, conn: str) -> Attachment:
        """What the gateway should keep for this connection."""
        typist = self.typists.get(person.user_id)
        typing = typist is not None and typist.shown and typist.conn == conn
        return person.attachment(conn, typing)

    def silence(self, attachments: Iterable[Attachment]) -> list[Effect]:
        """Who typed before a crash is still shown as typing; their timers are gone."""
        effects: list[Effect] = []
        told: set[str] = set()
        for attachment in attachments:
            person = self._roster.conns[attachment.conn]
            known = self.attachment(person, attachment.conn)
            if not attachment.typing or known.typing:
                continue
            effects.append(KeepAttachment(known))
            user_id = person.user_id
            if self.typists.get(user_id) is None and user_id not in told:
                told.add(user_id)
                effects.append(self._frame(user_id, person.display_name, False))
        return effects

    def _show(self, changed: Iterable[Typist]) -> list[Effect]:
        effects: list[Effect] = []
        for typist in changed:
            user_id, conn = typist.user_id, typist.conn
            effects.append(self._frame(user_id, typist.display_name, typist.shown))
            person = self._roster.conns.get(conn)
            if person is not None:
                effects.append(KeepAttachment(person.attachment(conn, typist.shown)))
        return effects

    def _frame(self, user_id: str, display_name: str, is_typing: bool) -> Broadcast:
        state = protocol.TypingState(self._room_id, user_id, display_name, is_typing)
        return Broadcast(protocol.encode(state), user_id)
