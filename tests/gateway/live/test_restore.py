"""People who talk while a copy is taken, and what a messenger on it shows them."""

from __future__ import annotations

import asyncio
from itertools import count

from cfmessenger.storage import copying
from cfmessenger.storage.copying import JUMP, Restore
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.valkey import Valkey
from tests.conftest import own_valkey, url_of
from tests.gateway.node import live, new_room


async def test_what_was_acknowledged_before_a_copy_is_shown_after_a_restore() -> None:
    room = new_room()
    name = f"room:{room}"
    with own_valkey() as source, own_valkey() as target:
        acked: dict[str, int] = {}
        stop = asyncio.Event()
        async with live(
            url_of(source), 2, hibernate_after="600", chat_rate="0"
        ) as node:
            sender = await node.enter("user_1", room)
            other = await node.enter("user_2", room, gateway=1)

            async def talk() -> None:
                for number in count():
                    if stop.is_set():
                        return
                    said = await sender.say(f"m{number}", id=f"c{number}")
                    acked[said["content"]] = said["seq"]

            backup = Valkey(url_of(source, "backup"))
            async with asyncio.TaskGroup() as group:
                group.create_task(talk())
                await other.wait("chat", content="m20")
                before = dict(acked)
                items = [item async for item in copying.copied(backup)]
                await other.wait("chat", content=f"m{len(acked) + 5}")
                stop.set()
            backup.close()
        log = ValkeyLog(url_of(source), 1000)
        epoch = await log.epoch(name)
        log.close()

        kv = Valkey(url_of(target, "backup"))
        restore = Restore(kv)
        await restore.begin(False)
        await restore.put(items)
        await restore.end()
        kv.close()
        async with live(
            url_of(target), 2, hibernate_after="600", chat_rate="0"
        ) as node:
            reader = await node.enter("user_3", room)
            *said_then, lost = reader.of("history")[0]["messages"]
            shown = {each["content"]: each["seq"] for each in said_then}
            assert before.items() <= shown.items()
            # What it has of later was acknowledged then as well, or was under way.
            assert all(acked.get(text, seq) == seq for text, seq in shown.items())
            top = max(shown.values())
            assert top < max(acked.values()), "nothing was said after the copy"
            # The same id is still the same message, and a new one has a new number.
            mine = await node.enter("user_1", room)
            await mine.send("chat", content="m3", id="c3")
            assert (await mine.wait("chat", id="c3"))["seq"] == acked["m3"]
            said = await mine.say("after")
            assert said["seq"] == lost["seq"] + 1
            assert lost["type"] == "lost" and lost["from"] == top + 1
            assert lost["to"] > max(acked.values()) and lost["era"] == lost["seq"]
            log = ValkeyLog(url_of(target), 1000)
            assert await log.epoch(name) > epoch + JUMP // 2
            numbers = [seq for seq, _ in await log.page(name, None, 1000)]
            assert numbers == sorted(set(numbers))
            log.close()
