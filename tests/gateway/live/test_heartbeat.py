"""A gateway's signs of life, and the channels on which it is called."""

import asyncio

import pytest
import valkey.asyncio

from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import OURS, running
from tests.gateway.node import Node, eventually, live, new_room, own_valkey
from tests.wire_rows import wire


async def test_a_gateway_renews_its_place_and_gives_it_up(valkey_url: str) -> None:
    async with live(valkey_url, 2) as node:
        kv = node.gateways[0].services.kv
        names = [node.hub(gateway).gateway for gateway in (0, 1)]

        async def renewed(name: str) -> int | None:
            score = await kv.ask("ZSCORE", keys.GATEWAYS, name)
            return None if score is None else int(float(score))

        for name in names:

            async def there(name: str = name) -> bool:
                return await renewed(name) is not None

            await eventually(there)
        first = await renewed(names[0])

        async def later() -> bool:
            now = await renewed(names[0])
            return now is not None and first is not None and now > first

        await eventually(later, within=3)
    async with valkey.asyncio.Valkey.from_url(valkey_url) as client:
        for name in names:
            assert await client.zscore(keys.GATEWAYS, name) is None


async def test_a_gateway_says_what_its_code_is_able_to_for_as_long_as_it_lives(
    valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    async with live(valkey_url) as node:
        kv, name = node.gateways[0].services.kv, node.hub().gateway
        assert (await running(kv)).gateways[name] == OURS
        admin_valkey.hdel(keys.RELEASES, name)

        async def said_again() -> bool:
            return (await running(kv)).gateways[name] == OURS

        await eventually(said_again, within=3)
    assert admin_valkey.zscore(keys.GATEWAYS, name) is None


@wire("1 users", "4 online")
async def test_presence_keys_of_users_who_are_there_do_not_run_out(
    valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    async with valkey.asyncio.Valkey.from_url(valkey_url) as client:
        async with live(valkey_url) as node:
            await node.enter("user_1", new_room())
            key = keys.presence("user_1")

            async def written() -> bool:
                return bool(await client.exists(key))

            await eventually(written)
            assert 80 < admin_valkey.ttl(key) <= 90
            await client.expire(key, 5)
            hub = node.hub()
            # The look that comes every half minute.
            users = sorted(hub.users)
            assert users == ["user_1"]
            now = 1_800_000_000_000
            await hub._heartbeat._extend([*users, "user_20"], now)
            assert 80 < admin_valkey.ttl(key) <= 90
            found = await client.hgetall(key)
            assert found[b"status"] == b"online"
            assert int(found[b"lastHeartbeat"]) == now
            assert found[b"routingHint"].decode() == hub.gateway
            # Only the registry makes keys.
            assert not await client.exists(keys.presence("user_20"))

        async def gone() -> bool:
            return not await client.exists(key)

        await eventually(gone)


async def test_a_gateway_is_called_back_to_an_object_that_woke(
    valkey_url: str,
) -> None:
    async with live(valkey_url, hibernate_after="0.2") as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        await node.asleep(f"room:{room}")
        kv = node.gateways[0].services.kv
        channel = keys.gateway_channel(node.hub().gateway)
        await kv.ask("PUBLISH", channel, "room:unknown")
        await kv.ask("PUBLISH", channel, f"room:{room}")

        async def awake() -> bool:
            return f"room:{room}" in await node.described()

        await eventually(awake)
        assert "room:unknown" not in await node.described()
        assert tab.open


@wire("6 resume", "3 seq")
async def test_what_a_deaf_gateway_missed_is_found_by_comparing_tops() -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with live(storage.url, 2, hibernate_after="0.2") as node:
            room = new_room()
            talker = await node.enter("user_1", room)
            listener = await node.enter("user_2", room, gateway=1)
            await talker.say("one")
            await listener.wait("chat")
            await node.asleep(f"room:{room}")
            with storage.admin() as client:
                # Nobody hears what is published now.
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await talker.say("two")
            await listener.wait("chat", content="two")
            assert listener.said == [1, 2]


@pytest.mark.parametrize("gateway", [0, 1])
async def test_logout_is_heard_after_the_channel_broke(
    node: Node, gateway: int
) -> None:
    # The word may be lost; the sockets of the login go all the same.
    tab = await node.enter("user_1", new_room(), gateway=gateway)
    services = node.gateways[gateway].services
    session = await services.sessions.get(tab.token)
    assert session is not None
    await services.sessions.logout(session)
    assert await tab.closed() == 4501
    await asyncio.sleep(0)
