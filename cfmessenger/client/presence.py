"""`PresenceConnection`: who is online, and notice of direct messages (wire.md §4).

Owns the one verb of that socket; its life is connection.py's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cfmessenger.client.connection import DEFAULTS, Connection, Options
from cfmessenger.client.state import PresenceState
from cfmessenger.wire.protocol import Status


class PresenceConnection(Connection[PresenceState]):
    """The presence registry (wire.md §4). Iterating yields `PresenceEvent`s;
    `state.roster` is who is online now."""

    def __init__(
        self,
        url: str,
        user_id: str,
        ticket: Callable[[], Awaitable[str]],
        *,
        options: Options = DEFAULTS,
    ) -> None:
        state = PresenceState(user_id)
        super().__init__(url, "/api/ws/presence", state, ticket, options)

    def presence(self, status: Status, display_name: str | None = None) -> None:
        """Choose a status (and a name); said again after each reconnect."""
        self.state.presence(status, display_name)
        self._wake.set()
