"""Whom a terminal watches, wherever they are: `/watch` of `cfmessenger chat`.

Owns the presence socket, which is opened when somebody is first watched, and what is
said of those who come, go or change. Must not know rooms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from cfmessenger.background import Background
from cfmessenger.cli.screen import Screen
from cfmessenger.client import ClientError, PresenceConnection, Session


class Lookout:
    """Of one stay; `close` it in the end."""

    def __init__(self, session: Session, screen: Screen) -> None:
        self._session = session
        self._screen = screen
        self._presence: PresenceConnection | None = None  # from the first `watch` on
        self._listening = Background()  # likewise
        # By user, of those who are watched: how they were shown last, until `unwatch`.
        self._told: dict[str, str] = {}

    async def watch(self, user_ids: Iterable[str]) -> None:
        """Watch these too; without any say who of all of them is there. Raises
        `ClientError`."""
        wanted = list(user_ids)
        if self._presence is None:
            if not wanted:
                self._screen.notice("nobody is watched")
                return
            self._presence = self._session.presence()
            self._presence.start()
            self._listening.begin(self._listen(self._presence))
        if wanted:
            self._presence.watch(wanted)
            return
        state = self._presence.state
        for user_id in state.watched:
            self._say(user_id)
        self._screen.notice(f"{state.online} are online")

    def unwatch(self, user_ids: Iterable[str]) -> None:
        """Watch these no more."""
        ended = list(user_ids)
        if self._presence is not None:
            self._presence.unwatch(ended)
        for user_id in ended:
            self._told.pop(user_id, None)

    async def _listen(self, presence: PresenceConnection) -> None:
        with contextlib.suppress(ClientError):  # the room says why
            async for _ in presence:
                for user_id in presence.state.watched:
                    if self._told.get(user_id) != self._status(user_id):
                        self._say(user_id)

    def _status(self, user_id: str) -> str:
        assert self._presence is not None
        someone = self._presence.state.roster.get(user_id)
        return "offline" if someone is None else someone.status

    def _say(self, user_id: str) -> None:
        assert self._presence is not None
        someone = self._presence.state.roster.get(user_id)
        name = user_id if someone is None else someone.display_name
        status = self._told[user_id] = self._status(user_id)
        self._screen.notice(f"{name} is {status}")

    async def close(self) -> None:
        """Look no more."""
        self._listening.cancel()
        if self._presence is not None:
            await self._presence.aclose()
        await self._listening.settle()
