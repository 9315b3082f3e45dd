"""`RoomConnection`: talking in one room, with acknowledgements as results.

Owns the verbs of wire.md §2; the life of the socket is connection.py's, the order and
completeness of what is heard room_state.py's.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from cfmessenger.client.connection import DEFAULTS, Connection, Options
from cfmessenger.client.room_state import RoomState
from cfmessenger.wire.events import Message, Receipt
from cfmessenger.wire.protocol import Status


class RoomConnection(Connection[RoomState]):
    """A room, over whatever sockets it takes (wire.md §2-3).

    Iterating yields `RoomEvent`s: every durable message once and in seq order, our own
    too; what cannot be had is a `Gap`. The three sends resolve with the echo, which
    means the message is in the room's log (wire.md §5); they raise `RateLimited`,
    `SendRejected`, `OutboxFull`, `SendTimeout` or `ConnectionEnded`. Calls made in one
    order are sent in that order, reconnects included.
    """

    def __init__(
        self,
        url: str,
        room_id: str,
        user_id: str,
        ticket: Callable[[], Awaitable[str]],
        *,
        since: int | None = None,
        options: Options = DEFAULTS,
    ) -> None:
        """`since` resumes after a seq known from an earlier connection."""
        state = RoomState(
            room_id,
            user_id,
            id_prefix=secrets.token_hex(8),
            since=since,
            outbox_limit=options.outbox_limit,
        )
        path = f"/api/ws/room/{quote(room_id, safe='')}"
        super().__init__(url, path, state, ticket, options)
        self.room_id = room_id

    async def send(
        self,
        content: str,
        *,
        id: str | None = None,  # noqa: A002 - the wire's name
        timeout_s: float | None = 30.0,
    ) -> Message:
        """Say something; the result is the message as everyone sees it. To retry
        without saying it twice, send again with the same `id`."""
        return await self._acknowledged(self.state.chat(content, id), timeout_s)

    async def nudge(self, *, timeout_s: float | None = 30.0) -> Message:
        """Shake everyone's window."""
        return await self._acknowledged(self.state.nudge(), timeout_s)

    async def wink(self, wink_id: str, *, timeout_s: float | None = 30.0) -> Message:
        """Play an animation on every screen at the same moment."""
        return await self._acknowledged(self.state.wink(wink_id), timeout_s)

    def presence(self, status: Status, display_name: str | None = None) -> None:
        """Choose a status (and a name); said again after each reconnect."""
        self.state.presence(status, display_name)
        self._wake.set()

    def typing(self, is_typing: bool) -> bool:
        """Tell the others; not queued while disconnected (then False)."""
        said = self.state.typing(is_typing)
        self._wake.set()
        return said

    def ack(self, message_id: str, status: Receipt) -> None:
        """Receipt for another user's message, fire and forget."""
        self.state.ack(message_id, status)
        self._wake.set()
