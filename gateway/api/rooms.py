"""Rooms as HTTP sees them: which exist, who may enter, what was said, what is unread.

Reads the log and the mirror of a room and never its actor, so looking wakes nobody.
Statuses come from the mirror and are as fresh as it is (wire.md §2: best effort), read
marks from a key of their own; the log is the truth about everything else.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import UNSET, UnsetType

from cfmessenger.chat import mirror
from cfmessenger.errors import ProtocolError
from cfmessenger.ids import RoomId, direct_users, room_name
from cfmessenger.storage import keys
from cfmessenger.wire.events import (
    LostMessage,
    Receipt,
    era_of,
    read_event,
    shown_event,
    with_status,
)
from cfmessenger.wire.protocol import RoomInfo
from gateway.api.hub import Services

PUBLIC_ROOMS = {"general": "General", "music": "Music"}
LISTED_ROOMS = 50
"""At most this many direct rooms in a list, the latest ones."""

# How many messages to look at for an unread count, in steps: most often the first is
# enough; the count stops at the sum.
_UNREAD_STEPS = (20, 100, 400)


def enter(room: RoomId, user_id: str, services: Services) -> None:
    """Raises ROOM_NOT_FOUND or NOT_A_PARTICIPANT unless this user may be in there."""
    if room.direct:
        if any(services.directory.get(user) is None for user in room.users):
            raise ProtocolError("ROOM_NOT_FOUND")
        if user_id not in room.users:
            raise ProtocolError("NOT_A_PARTICIPANT")
    elif room.id not in PUBLIC_ROOMS and not services.settings.open_rooms:
        raise ProtocolError("ROOM_NOT_FOUND")


async def history(
    services: Services, room_id: str, before: int | None, limit: int
) -> tuple[list[msgspec.Raw], int | None, int | UnsetType]:
    """A page of messages, oldest first, the `nextBefore` of wire.md §1 if there are
    earlier ones, and the room's `era`.

    At most `limit` below the seq `before` (None: the newest). Raises `Unavailable`.
    """
    name = room_name(room_id)
    events = await services.log.page(name, before, limit + 1)
    earlier = events[0][0] if len(events) > limit else None
    events = events[-limit:]
    newest = events if before is None else await services.log.page(name, None, 1)
    era = era_of(newest[-1][1]) if newest else UNSET
    if events:
        statuses = _statuses(await services.log.mirror(name))
        shown = [
            msgspec.Raw(with_status(event, statuses[seq]) if seq in statuses else event)
            for seq, logged in events
            if (event := shown_event(seq, logged)) is not None
        ]
        return shown, events[0][0] if earlier is not None else None, era
    return [], None, era


async def listed(services: Services, user_id: str | None) -> list[RoomInfo]:
    """The public rooms, and a user's direct rooms that have messages, latest first.

    `user_id` None: the public ones alone. Raises `Unavailable`.
    """
    rooms = [
        RoomInfo(room_id, name, "group", [], 0)
        for room_id, name in PUBLIC_ROOMS.items()
    ]
    if user_id is None:
        return rooms
    recent = await services.kv.ask(
        "ZREVRANGE", keys.user_rooms(user_id), 0, LISTED_ROOMS - 1
    )
    direct = [
        _direct(services, room_id, user_id)
        for room_id in (raw.decode() for raw in recent)
        if user_id in direct_users(room_id)
    ]
    return rooms + [room for room in await asyncio.gather(*direct) if room is not None]


async def _direct(services: Services, room_id: str, user_id: str) -> RoomInfo | None:
    users = list(direct_users(room_id))
    others = [services.directory.get(user) for user in users if user != user_id]
    if len(others) != 1 or others[0] is None:
        return None  # somebody who left the directory since
    unread = await unread_count(services, room_id, user_id)
    return RoomInfo(room_id, others[0].display_name, "direct", users, unread)


async def unread_count(services: Services, room_id: str, user_id: str) -> int:
    """Messages of others since the user's last read receipt or own message, up to 520
    (wire.md §1). Raises `Unavailable`."""
    name = room_name(room_id)
    mark = await _read_up_to(services, name, user_id)
    unread = 0
    before: int | None = None
    for step in _UNREAD_STEPS:
        events = await services.log.page(name, before, step)
        for seq, event in reversed(events):
            if seq <= mark:
                return unread
            try:
                found = read_event(seq, event)[0]
            except ValueError:
                continue  # nobody can read it
            if isinstance(found, LostMessage):
                continue  # nobody said it
            sender_id = found.sender_id
            if sender_id == user_id:
                return unread
            unread += 1
        if len(events) < step:
            break
        before = events[0][0]
    return unread


async def _read_up_to(services: Services, name: str, user_id: str) -> int:
    mark = await services.kv.ask("ZSCORE", keys.reads(name), user_id)
    if mark is not None:
        return int(mark)
    # A room that has slept since read marks were in the mirror.
    snapshot = await services.log.mirror(name)
    return 0 if snapshot is None else mirror.read_marks(snapshot).get(user_id, 0)


def _statuses(snapshot: bytes | None) -> dict[int, Receipt]:
    kept = None if snapshot is None else mirror.decode(snapshot)
    return {row.seq: row.status for row in kept.messages if row.status} if kept else {}
