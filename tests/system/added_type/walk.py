"""The walk of a durable type that was added: room, log, sleep, wake, resume, refusal,
Python client and documents. Run in a copy that has it (`tree.grow`), by its own
interpreter, as `python -m tests.system.added_type.walk URL ROOM`; it prints what the
log then holds, and leaves the room to who does not know the type.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from cfmessenger.client import Client, Recap
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.wire.events import Message
from tests.gateway.node import Node, OwnValkey, Socket, live, own_valkey

POKE = {"finger": "thumb", "id": "p-1"}


async def logged(url: str, room: str) -> list[bytes]:
    log = ValkeyLog(url, 1000)
    try:
        return [entry.event for entry in await log.newest(f"room:{room}", 100, None)]
    finally:
        log.close()


async def said_and_shown(node: Node, room: str) -> tuple[Socket, dict[str, Any]]:
    """Durable, then the same to everybody; refused as any frame is."""
    maya = await node.enter("user_1", room)
    tom = await node.enter("user_2", room)
    await maya.send("poke", **POKE)
    echo = await maya.wait("poke", seq=1)
    assert (echo["finger"], echo["content"]) == ("thumb", "pokes.")
    assert await tom.wait("poke") == echo
    await maya.send("poke", finger="NO", id="p-2")
    refused = await maya.wait("error")
    assert (refused["code"], refused["id"]) == ("VALIDATION_ERROR", "p-2")
    assert "finger" in refused["message"]
    await tom.send("ack", ackId="p-1", status="read")
    await maya.wait("delivery_status", ackId="p-1", status="read")
    return maya, echo


async def slept_and_resumed(node: Node, room: str, maya: Socket, echo: Any) -> None:
    """Known again by its id and its words, counted, and shown to who comes."""
    await node.asleep(f"room:{room}")
    await maya.send("poke", **POKE)
    assert await maya.wait("poke", id="p-1") == echo
    await maya.send("poke", finger="nose", id="p-1")
    await maya.wait("error", code="ID_REUSED", id="p-1")
    for n in (2, 3):
        await maya.send("poke", finger="thumb", id=f"more-{n}")
        await maya.wait("poke", seq=n)
    await node.asleep(f"room:{room}")
    await maya.send("poke", finger="thumb", id="more-4")
    await maya.wait("error", code="RATE_LIMITED", id="more-4")
    await maya.say("and on")
    late = await node.connect("user_3", f"/api/ws/room/{room}", since=0)
    history = await late.wait("history")
    assert [each["seq"] for each in history["messages"]] == [1, 2, 3, 4]
    assert history["messages"][0] == {**echo, "status": "read"}


async def heard_by_python(node: Node, room: str) -> None:
    """As a message of its own type, with its own field."""
    url = f"http://127.0.0.1:{node.gateways[0].port}"
    async with Client(url) as client:
        session = await client.login("user_4")
        found: list[Message] = list((await session.messages(room)).messages)
        async with session.room(room) as connection:
            async for event in connection:
                if isinstance(event, Recap):
                    found += event.messages
                    break
        await session.logout()
    kinds = [message.type for message in found]
    assert kinds == ["poke", "poke", "poke", "chat"] * 2, kinds
    assert {getattr(each, "finger", None) for each in found} == {"thumb", None}


async def documented(node: Node) -> None:
    async with node.gateways[0].client() as http:
        sockets = (await http.get("/api/asyncapi.json")).json()
        calls = (await http.get("/api/openapi.json")).json()
    messages = sockets["components"]["messages"]
    assert messages["client.poke"]["examples"][0]["payload"]["finger"] == "thumb"
    assert messages["server.poke"]["description"] == "Once it is durable, to everyone."
    assert "server.poke" in sockets["channels"]["room"]["messages"]
    known = calls["components"]["schemas"]["Message"]["anyOf"]
    assert {"$ref": "#/components/schemas/PokeMessage"} in known


async def refused_without_storage(storage: OwnValkey) -> None:
    """STORAGE_UNAVAILABLE, and said again it is one event."""
    await storage.answers()
    async with live(storage.url, alone=True) as node:
        maya = await node.enter("user_1", "frozen")
        await maya.say("before")
        storage.freeze()
        await maya.send("poke", **POKE)
        error = await maya.wait("error", within=5.5)
        assert (error["code"], error["id"]) == ("STORAGE_UNAVAILABLE", "p-1")
        storage.thaw()
        await maya.send("poke", **POKE)
        assert (await maya.wait("poke", id="p-1", within=10))["seq"] == 2
        assert len(await logged(storage.url, "frozen")) == 2


async def walk(url: str, room: str) -> list[bytes]:
    async with live(url, hibernate_after="0.2") as node:
        maya, echo = await said_and_shown(node, room)
        await slept_and_resumed(node, room, maya, echo)
        await heard_by_python(node, room)
        await documented(node)
        await maya.close()
    with own_valkey() as storage:
        await refused_without_storage(storage)
    return await logged(url, room)


if __name__ == "__main__":
    events = asyncio.run(walk(*sys.argv[1:]))
    sys.stdout.write(json.dumps([event.decode() for event in events]))
