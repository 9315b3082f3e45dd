"""Rooms that nobody was ever in: how many one user may open, and what they leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from valkey import Valkey as Admin

from cfmessenger.storage import keys
from tests.gateway.node import Node, Refused, error_of, eventually, live, new_room
from tests.wire_rows import wire


@pytest.fixture
async def node(empty_valkey: str) -> AsyncIterator[Node]:
    rules = {"new_room_rate": "3/600", "hibernate_after": "0.2"}
    async with live(empty_valkey, 2, **rules) as running:
        yield running


async def refused(node: Node, user_id: str, room: str, **how: int) -> int:
    """It is one too many; returns the seconds to wait."""
    with pytest.raises(Refused) as caught:
        await node.connect(user_id, f"/api/ws/room/{room}", **how)
    assert error_of(caught.value) == (429, "RATE_LIMITED")
    return int(caught.value.response.headers["Retry-After"])


@wire("1 sockets")
async def test_a_user_opens_so_many_new_rooms_whatever_the_gateway(node: Node) -> None:
    rooms = [new_room() for _ in range(3)]
    for n, room in enumerate(rooms):
        await node.enter("user_1", room, gateway=n % 2)
    for gateway in (0, 1):
        assert 1 <= await refused(node, "user_1", new_room(), gateway=gateway) <= 600
    # Direct rooms are rooms; whoever reaches one that is there opens nothing.
    assert await refused(node, "user_1", "dm_user_1__user_2")
    await node.enter("user_1", rooms[0])
    await node.enter("user_1", "general")
    await node.enter("user_2", "dm_user_2__user_1")
    await node.enter("user_1", "dm_user_1__user_2")
    await node.enter("user_2", new_room())


def found(admin: Admin, room: str) -> set[bytes]:
    """The keys of a room."""
    return set(admin.keys(f"cfm:*room:{room}*"))


async def test_a_room_without_content_leaves_its_epoch_and_nothing_else(
    node: Node, admin_valkey: Admin
) -> None:
    room = new_room()
    tab = await node.enter("user_1", room)
    await tab.close()
    mirror = keys.mirror(f"room:{room}")
    await node.asleep(f"room:{room}")
    # It may have slept with its guest in it: then the mirror is on its way out.
    await eventually(lambda: admin_valkey.ttl(mirror) != -1)
    left = {keys.log(f"room:{room}").encode()}
    assert found(admin_valkey, room) - {mirror.encode()} == left


async def test_a_guest_who_says_nothing_is_remembered_while_the_room_sleeps(
    node: Node, admin_valkey: Admin
) -> None:
    room = new_room()
    name = f"room:{room}"
    tab = await node.enter("user_1", room)
    await node.asleep(name)
    assert admin_valkey.ttl(keys.mirror(name)) == -1
    other = await node.enter("user_2", room)
    people = other.of("participants")[-1]["participants"]
    assert {who["id"] for who in people} == {"user_1", "user_2"}
    await tab.close()
    await other.close()

    def leaves() -> bool:
        return 0 < admin_valkey.ttl(keys.mirror(name)) <= 3600

    await eventually(leaves)
    # Once there is something to remember it stays, and numbering goes on.
    again = await node.enter("user_1", room)
    assert (await again.say("hello"))["seq"] == 1
    await again.close()
    await node.asleep(name)
    assert admin_valkey.ttl(keys.mirror(name)) == -1
    assert len(found(admin_valkey, room)) == 2


async def test_numbering_goes_on_where_no_mirror_was_left(
    node: Node, admin_valkey: Admin
) -> None:
    """The epoch alone is enough to go on from."""
    room = new_room()
    for n in range(1, 4):
        tab = await node.enter("user_1", room)
        await tab.close()
        await node.asleep(f"room:{room}")
        top = admin_valkey.xinfo_stream(keys.log(f"room:{room}"))["last-generated-id"]
        assert int(top.split(b"-")[0]) >= n
        admin_valkey.delete(keys.mirror(f"room:{room}"))
    tab = await node.enter("user_1", room)
    assert (await tab.say("first"))["seq"] == 1
