"""What nobody can know: events and mirrors of the release after, in a room of this one.

The room wakes all the same, says on with the next number, and what it does not know
stays where it was, byte for byte.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import valkey

from cfmessenger.chat import mirror
from cfmessenger.storage import keys
from tests.gateway.node import Node, live, new_room


def log_of(admin: valkey.Valkey, room: str) -> list[tuple[str, bytes]]:
    rows = admin.xrange(keys.log(f"room:{room}"))
    return [(entry.decode(), fields[b"e"]) for entry, fields in rows]


async def woken(node: Node, room: str) -> tuple[list[dict[str, Any]], int]:
    """Somebody comes who has seen nothing, and speaks: what was there, and the seq."""
    one = await node.connect("user_2", f"/api/ws/room/{room}", since=0)
    history = await one.wait("history")
    assert not history["gap"]
    said = await one.say("and on")
    await one.close()
    return history["messages"], said["seq"]


UNKNOWN = {
    "a type that nobody knows": {"type": "séance", "spirits": [1, {"x": None}]},
    "a version that nobody knows": {"type": "chat", "version": 99, "words": ["hi"]},
    "hardly anything": {},
}


@pytest.mark.parametrize("what", UNKNOWN)
async def test_an_event_that_nobody_knows_stays_and_the_room_goes_on(
    what: str, valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    room = new_room()
    async with live(valkey_url, hibernate_after="0.2") as node:
        one = await node.enter("user_1", room)
        await one.say("before")
        await node.asleep(f"room:{room}")
        epoch = int(log_of(admin_valkey, room)[-1][0].split("-")[0])
        event = {"type": "omen", "seq": 2} | UNKNOWN[what]
        data = msgspec.json.encode(event)
        admin_valkey.xadd(keys.log(f"room:{room}"), {"e": data}, id=f"{epoch}-2")
        messages, seq = await woken(node, room)
        assert messages[1] == event and [m["seq"] for m in messages] == [1, 2]
        assert seq == 3
        await node.asleep(f"room:{room}")  # from its mirror, too
        messages, seq = await woken(node, room)
        assert messages[1] == event and seq == 4
        assert (await one.wait("chat", content="and on"))["seq"] == 3
    entries = log_of(admin_valkey, room)
    assert entries[1] == (f"{epoch}-2", data)
    assert [int(entry.split("-")[1]) for entry, _ in entries] == [1, 2, 3, 4]


async def test_a_mirror_of_the_version_after_is_kept_and_statuses_come_back_with_it(
    valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    """And silent sockets of every gateway hear on: the mirror that named them cannot be
    read."""
    room = new_room()
    name = f"room:{room}"
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        one = await node.enter("user_1", room)
        silent = await node.enter("user_2", room, gateway=1)
        await one.say("read this", id="m1")
        await silent.send("ack", ackId="m1", status="read")
        await one.wait("delivery_status", status="read")
        await node.asleep(name)
        ((entry, fields),) = admin_valkey.xrange(keys.mirror(name))
        ours = fields[b"final"]
        later = msgspec.msgpack.decode(ours) | {"type": mirror.VERSION + 1, "new": 1}
        admin_valkey.delete(keys.mirror(name))
        theirs = msgspec.msgpack.encode(later)
        admin_valkey.xadd(keys.mirror(name), {"final": theirs}, id=entry)

        said = await one.say("is anybody there?")
        assert said["seq"] == 2, "ids, numbers and time are the log's"
        assert (await silent.wait("chat", content="is anybody there?"))["seq"] == 2
        await node.asleep(name)
        ((_, fields),) = admin_valkey.xrange(keys.aside(name))
        assert fields == {b"final": theirs}
        late = await node.connect("user_3", f"/api/ws/room/{room}", since=0)
        (first, _) = (await late.wait("history"))["messages"]
        assert "status" not in first, "nobody here can read it"
        await node.asleep(name)

        # The release after is back: here it is one that can read what was put aside.
        ((entry, _),) = admin_valkey.xrange(keys.aside(name))
        admin_valkey.delete(keys.aside(name))
        admin_valkey.xadd(keys.aside(name), {"final": ours}, id=entry)
        late = await node.connect("user_3", f"/api/ws/room/{room}", since=0)
        (first, _) = (await late.wait("history"))["messages"]
        assert first["status"] == "read"


async def test_a_mirror_that_is_damaged_leaves_nobody_in_silence(
    valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    """It does not say whose sockets wait, so all gateways are called."""
    room = new_room()
    name = f"room:{room}"
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        one = await node.enter("user_1", room)
        silent = await node.enter("user_2", room, gateway=1)
        await one.say("first")
        await node.asleep(name)
        ((entry, fields),) = admin_valkey.xrange(keys.mirror(name))
        admin_valkey.delete(keys.mirror(name))
        broken = {"final": fields[b"final"][:-9]}
        admin_valkey.xadd(keys.mirror(name), broken, id=entry)
        await one.say("second")
        assert (await silent.wait("chat", content="second"))["seq"] == 2
