"""`PresenceConnection`: who is online, and notice of direct messages (wire.md §4).

Owns the verbs of that socket; its life is connection.py's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from cfmessenger.client.connection import DEFAULTS, Connection, Options
from cfmessenger.client.state import PresenceState
from cfmessenger.wire.protocol import Status


class PresenceConnection(Connection[PresenceState]):
    """The presence registry (wire.md §4). Iterating yields `PresenceEvent`s;
    `state.roster` is who is online now. Where very many are (`state.scope` is
    "watched") the server tells of some alone: of those whom you `watch`, too.
    `state.online` is how many there are."""

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

    def watch(self, user_ids: Iterable[str]) -> None:
        """Be told of these people, however many are online; said again after each
        reconnect. Answered by a partial `PresenceFullSync`. Raises `SendRejected` if
        more than 500 would be watched, or one is no user id."""
        self.state.watch(user_ids)
        self._wake.set()

    def unwatch(self, user_ids: Iterable[str]) -> None:
        """Be told of these no more."""
        self.state.unwatch(user_ids)
        self._wake.set()
