"""Identifiers: which ones are well formed, and what can be read from them.

Owns the rules of wire.md §1 for room ids (one canonical id per direct room), of §2 for
message ids, and the shape of connection and request ids. Pure text: whether a user or
a room exists is for others to say, and new ids come from outside.
"""

import re

import msgspec

from .errors import ProtocolError

PRESENCE = "presence:global"
"""The object that is the PresenceRoom."""

_ROOM = "room:"

# `(?!\n)$` and not `\Z`: the same pattern is published as JSON Schema, where `$` is
# the very end; Python's `$` alone would let a final newline through.
MESSAGE_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,64}(?!\n)$"
USER_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}(?!\n)$"
"""Of whom a client may ask; whether there is such a user is another question."""
WINK_ID_PATTERN = r"^[a-z0-9_-]{1,64}(?!\n)$"

_message_id = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_room_id = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_request_id = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RESERVED = ("system_", "admin_")
_DIRECT = "dm_"


class RoomId(msgspec.Struct, frozen=True, gc=False):
    """A well-formed room id in its canonical form; `users` are a direct room's two."""

    id: str
    users: tuple[str, ...] = ()

    @property
    def direct(self) -> bool:
        """Whether only `users` may enter."""
        return bool(self.users)


def parse_room_id(raw: str) -> RoomId:
    """Check and canonicalise what a client calls a room.

    Raises ProtocolError: INVALID_ROOM_ID (malformed), ROOM_RESERVED (`system_…`,
    `admin_…`), ROOM_NOT_FOUND (starts with `dm_` and names no two different users).
    Whether those users exist is not checked here.
    """
    if not _room_id.fullmatch(raw):
        raise ProtocolError("INVALID_ROOM_ID")
    if raw.startswith(_RESERVED):
        raise ProtocolError("ROOM_RESERVED")
    if not raw.startswith(_DIRECT):
        return RoomId(raw)
    users = raw.removeprefix(_DIRECT).split("__")
    if len(users) != 2 or users[0] == users[1] or not all(users):
        raise ProtocolError("ROOM_NOT_FOUND")
    return RoomId(direct_room(*users), tuple(sorted(users)))


def room_name(room_id: str) -> str:
    """The name of the object that is this room."""
    return _ROOM + room_id


def is_room(name: str) -> bool:
    """Whether the object of this name is a room."""
    return name.startswith(_ROOM)


def room_id_of(name: str) -> str:
    """The id of the room that this object is; any other name as it is."""
    return name.removeprefix(_ROOM)


def direct_room(a: str, b: str) -> str:
    """The one id of the direct room of two different users."""
    first, second = sorted((a, b))
    return f"{_DIRECT}{first}__{second}"


def direct_users(room_id: str) -> tuple[str, ...]:
    """The two users of a direct room's canonical id, `()` for a group room."""
    if not room_id.startswith(_DIRECT):
        return ()
    return tuple(room_id.removeprefix(_DIRECT).split("__"))


def is_message_id(raw: str) -> bool:
    """Whether a client may use this as a message's `id`."""
    return _message_id.fullmatch(raw) is not None


def connection_id(gateway: str, n: int) -> str:
    """The id of the `n`th connection of a gateway."""
    return f"{gateway}.{n}"


def gateway_of(conn: str) -> str:
    """The gateway that holds this connection."""
    return conn.rpartition(".")[0]


def gateway_id(process: str, life: int) -> str:
    """A gateway process's `life`th name: it takes a new one when it was given up."""
    return process if life == 1 else f"{process}~{life}"


def process_of(gateway: str) -> str:
    """The gateway process behind a name: what its inputs are numbered by."""
    return gateway.partition("~")[0]


def sane_request_id(raw: str | None) -> str | None:
    """The caller's `X-Request-Id` if it may be echoed, else None."""
    return raw if raw and _request_id.fullmatch(raw) else None
