"""The people who have sockets here: what they are called and shown as.

Owns whose sockets are whose, and what belongs to a user and not to a socket: the words
of their row, and the status they chose. Each of a user's sockets shows the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from msgspec import UNSET, convert

from cfmessenger.chat.effects import (
    Acquainted,
    Attachment,
    StatusChanged,
    encode_notification,
)
from cfmessenger.errors import Unavailable
from cfmessenger.ids import PRESENCE, direct_users, room_id_of
from cfmessenger.link.wanted import MAX_ALWAYS
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.wire.protocol import Status, UpdatePresence, Wish, encode
from gateway.api.hub import Services
from gateway.live.connection import Connection
from gateway.live.own_words import OwnWords
from gateway.live.stubs import Stubs

FIRST_LOOK_S, WRITTEN_WITHIN_S = 0.005, 5.0
"""A chosen status is said again after the first, then after twice as long, and so on;
for the second at most."""


class People:
    """`enter` and `leave` are told of every socket."""

    def __init__(self, services: Services, log: ValkeyLog, stubs: Stubs) -> None:
        # Their sockets; of whom there are none is not among them.
        self.by_user: dict[str, list[Connection]] = {}
        self._directory = services.directory
        self._log = log
        self._stubs = stubs
        self._words = OwnWords(services.names, lambda: services.clock)
        if services.names is not None:
            services.names.heard = self._renamed

    @property
    def ids(self) -> set[str]:
        """Of those who have a socket here."""
        return set(self.by_user)

    def enter(self, connection: Connection) -> None:
        """A socket of theirs is there."""
        self.by_user.setdefault(connection.user_id, []).append(connection)

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        others = self.by_user[connection.user_id]
        others.remove(connection)
        if not others:
            del self.by_user[connection.user_id]

    def worded(
        self, conn: str, user_id: str, status: Status = "online", status_at: int = 0
    ) -> Attachment:
        """An attachment with the words of the user's row as we know it."""
        user = self._directory.get(user_id)
        assert user is not None, "a session belongs to a person of the directory"
        return Attachment(
            conn,
            user_id,
            user.display_name,
            status,
            personal_message=user.personal_message,
            avatar_id=user.avatar_id,
            words_at=self._directory.revision(user_id),
            status_at=status_at,
        )

    def _renamed(self, user_ids: Collection[str]) -> None:
        """Rows have changed: tell the objects of these users' sockets.

        Contact lists show it at once, so the registry is woken for it; rooms are not.
        """
        for user_id in user_ids:
            for connection in self.by_user.get(user_id, ()):
                connection.learn(self.worded(connection.conn, user_id))
        if not self.by_user.keys().isdisjoint(user_ids):
            self._stubs.registry.life.wake()

    def want(self, connection: Connection, wish: Wish, came: float) -> None:
        """A socket's user wants another status, and perhaps another name.

        `came`: when its frame did, in loop time.
        """
        # First, for whoever wants to appear offline: a name may be refused by its rate.
        status = encode(UpdatePresence(wish.status))
        self._stubs.registry.say(connection, status, came)
        words = {"display_name": wish.display_name} if wish.display_name else {}
        if wish.personal_message is not UNSET:
            words["personal_message"] = wish.personal_message
        if words:
            self._words.want(connection.user_id, words, connection)

    async def status_of(self, user_id: str) -> tuple[Status, int]:
        """What the registry last wrote of somebody: their choice, and its number.
        Raises `Unavailable`."""
        fields = ("chosen", "chosenAt")
        status, at = await self._log.ask("HMGET", keys.presence(user_id), *fields)
        return (convert(status.decode(), Status), int(at)) if status else ("online", 0)

    # Whom they have direct rooms with.

    async def friends_of(self, user_id: str) -> list[str]:
        """With whom somebody has a direct room in which something was said, the latest
        first, or one that is open here. Raises `Unavailable`."""
        key = keys.user_rooms(user_id)
        recent = await self._log.ask("ZREVRANGE", key, 0, MAX_ALWAYS - 1)
        rooms = [raw.decode() for raw in recent]
        here = self.by_user.get(user_id, ())
        rooms += [room_id_of(connection.room.name) for connection in here]
        others = (other for room_id in rooms for other in _others(room_id, user_id))
        return list(dict.fromkeys(others))

    def acquaint(self, connection: Connection) -> None:
        """A socket in a direct room: its user's presence sockets, at whichever gateway,
        want to hear of the other."""
        user_id = connection.user_id
        for other in _others(room_id_of(connection.room.name), user_id):
            told = encode_notification(Acquainted(user_id, other))
            self._stubs.forward(PRESENCE, told)

    async def choose(self, user_id: str, status: Status) -> None:
        """Tell the registry a status; done when the next socket would find it (wire.md
        §1). Raises `Unavailable`, after 5 s at the latest.

        The registry writes behind, and may die before it has written; if the user has
        no sockets nobody else remembers. So the status is said again until it is
        there, which is nearly always at once.
        """
        payload = encode_notification(StatusChanged(user_id, status))
        pause_s = FIRST_LOOK_S
        try:
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                while True:
                    await self._stubs.registry.notify(payload, once=False)
                    if (await self.status_of(user_id))[0] == status:
                        return
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
        except TimeoutError as error:
            raise Unavailable() from error

    def end(self) -> None:
        """The gateway goes: changes of rows under way are cancelled."""
        self._words.end()


def _others(room_id: str, user_id: str) -> tuple[str, ...]:
    """The other one of a direct room, if this user is one of the two."""
    two = direct_users(room_id)
    return tuple(e for e in two if e != user_id) if user_id in two else ()
