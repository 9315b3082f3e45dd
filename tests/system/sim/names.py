"""Where people's words are: the rows of `users`, and a gateway's way to them.

The database of a world is as fast as its network and never away; `Names` above it is
the real one, and so is the channel on which gateways tell each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cfmessenger.accounts.users import Directory, Profile, Words

if TYPE_CHECKING:
    from tests.system.sim.world import World

AVATAR = "default"


def directory_of(people: int) -> Directory:
    """Everybody is somebody, called after their id."""
    ids = [f"user_{n + 1}" for n in range(people)]
    return Directory(
        [
            Profile(
                id=each,
                email=f"{each}@sim",
                display_name=each.upper(),
                avatar_id=AVATAR,
            )
            for each in ids
        ]
    )


class Rows:
    """The rows that were changed, by user."""

    def __init__(self) -> None:
        self.words: dict[str, Words] = {}

    def change(self, user_id: str, sent: Mapping[str, Any]) -> None:
        """One transaction."""
        fresh = Words(user_id.upper(), None, AVATAR, 0)
        row = self.words.get(user_id, fresh)
        self.words[user_id] = row._replace(**sent, revision=row.revision + 1)


class SimStore:
    """What `Names` asks of a `Store`: each question has a way there and one back."""

    collections: ClassVar[dict[str, None]] = {"users": None}

    def __init__(self, world: World) -> None:
        self._world = world

    async def _travel(self) -> None:
        await asyncio.sleep(self._world.network.latency())

    async def own_words(self, user_id: str | None = None) -> dict[str, Words]:
        await self._travel()
        found = dict(self._world.rows.words)
        await self._travel()
        return found if user_id is None else {user_id: found[user_id]}

    async def change(
        self, users: None, viewer: str, row_id: str, sent: Mapping[str, Any], *_: object
    ) -> None:
        await self._travel()
        self._world.rows.change(row_id, sent)
        self._world.note("%s is %s", row_id, dict(sent))
        await self._travel()

    async def purge(self, now: int) -> None:
        """Nothing here grows old."""
