"""The roll of a crowd, as each socket is to be told it.

Owns the rule of wire.md §3 that the receiver is always among the `participants`,
without a frame for each: whoever is among the latest gets the room's own frame, and all
others that with themselves in place of its first entry. What they get is two pieces, of
which the longer is one object for all. Pure: it writes to no socket.
"""

from __future__ import annotations

from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.roster import participant
from cfmessenger.link.messages import text_frame, text_head
from cfmessenger.wire import protocol


class PersonalRoll:
    """One roll, for one socket after another.

    `frame`: the room's `participants`; `users`: whom it names; `start`, `end`: of the
    entry that makes way for who is not named.
    """

    def __init__(
        self, frame: bytes, start: int, end: int, users: tuple[str, ...]
    ) -> None:
        self._shared = (text_frame(frame),)
        self._before, self._after = frame[:start], frame[end:]
        self._users = frozenset(users)
        self._size = len(self._before) + len(self._after)

    def for_one(self, receiver: Attachment) -> tuple[bytes, ...]:
        """A finished WebSocket frame, in the pieces in which it is to be written."""
        if receiver.user_id in self._users:
            return self._shared
        entry = protocol.encode(participant(receiver))
        head = text_head(self._size + len(entry))
        return b"%b%b%b" % (head, self._before, entry), self._after
