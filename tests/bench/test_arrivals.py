"""People who come, at our own gateway, and at servers that do not bear it."""

import asyncio
import os

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bench import arrivals
from tests.bench.arrivals import conversations, crowd, gather
from tests.bench.loader import Broken, Server
from tests.bench.meter import Meter
from tests.bench.ours import _conversations, presence_urls, profiles, socket_urls
from tests.bench.test_measures import peer
from tests.gateway.node import live


@pytest.fixture(autouse=True)
def _soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "QUIET_S", 0.1)


async def test_our_gateway_is_measured_in_every_row(valkey_url: str) -> None:
    async with live(valkey_url, chat_rate="0", login_rate="0") as node:
        tokens = [await node.token(f"user_{n}") for n in range(1, 6)]
        base = f"http://127.0.0.1:{node.gateways[0].port}"
        server = Server(socket_urls(base, tokens), Meter([os.getpid()]))
        server.presence = presence_urls(base, tokens)
        server.conversation = _conversations(len(tokens))
        room = await gather(server, sockets=5, within_s=0.1)
        assert room.figures["all_in_s"] >= 0.08
        assert room.figures["closed"] == 0
        # Each was greeted, was told who is there, and heard the line.
        assert room.figures["frames_per_person"] >= 3
        assert room.figures["kib_per_person"] > 0.1
        online = await crowd(server, people=5, within_s=0.1)
        assert online.figures["frames_per_person"] >= 2
        begun = await conversations(server, rooms=6, within_s=0.05)
        assert 0 < begun.figures["new_p50_ms"] <= begun.figures["new_p99_ms"]
        assert begun.figures["refused"] == 0


async def test_a_peer_has_the_rows_that_need_nobody_by_name() -> None:
    async with peer() as server:
        room = await gather(server, sockets=4, within_s=0.02)
        begun = await conversations(server, rooms=4, within_s=0.02)
    assert room.figures["frames_per_person"] == 2  # a greeting and the line
    assert begun.figures["new_p50_ms"] > 0


async def test_who_is_closed_while_others_come_is_counted() -> None:
    sockets: list[ServerConnection] = []

    async def enter(socket: ServerConnection) -> None:
        sockets.append(socket)
        await socket.send('{"type":"system"}')
        if len(sockets) == 2:
            await sockets[0].close()
        async for _ in socket:
            line = '{"type":"chat","content":"1 x","seq":1}'
            await asyncio.gather(*(each.send(line) for each in sockets[1:]))

    async with serve(enter, "127.0.0.1", 0, compression=None) as running:
        port = running.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        server = Server(lambda room, n: url, Meter([os.getpid()]))
        found = await gather(server, sockets=3, within_s=0.3)
    assert found.figures["closed"] == 1


async def test_who_is_closed_before_being_greeted_is_counted_too() -> None:
    sockets: list[ServerConnection] = []

    async def enter(socket: ServerConnection) -> None:
        sockets.append(socket)
        if len(sockets) == 2:
            await socket.close(1013)
            return
        await socket.send('{"type":"presence_full_sync"}')
        async for _ in socket:
            line = '{"type":"chat","content":"1 x","seq":1}'
            for each in (sockets[0], *sockets[2:]):
                await each.send(line)

    async with serve(enter, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
        server = Server(lambda room, n: url, Meter([os.getpid()]))
        found = await gather(server, sockets=3, within_s=0.3)
        assert found.figures["closed"] == 1
        sockets.clear()
        server.presence = lambda n: url
        with pytest.raises(Broken, match="dropped"):
            await crowd(server, people=2, within_s=0.3)


async def test_a_room_that_is_not_heard_has_no_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "STEP_S", 0.2)
    async with peer(loses=1) as server:
        with pytest.raises(Broken, match="not everybody"):
            await gather(server, sockets=2, within_s=0.01)
        with pytest.raises(Broken, match="could not join"):
            async with peer(loses=1) as other:
                await conversations(other, rooms=1, within_s=0.01)


def test_every_conversation_is_another_room_of_one_who_speaks_there() -> None:
    found = [_conversations(5)(n) for n in range(10)]
    assert len({room for room, _ in found}) == 10
    assert all(f"user_{client + 1}" in room for room, client in found)


def test_a_crowd_is_of_people_who_are_not_each_other() -> None:
    crowd = profiles(300)
    assert len({each.id for each in crowd}) == 300
    assert crowd[0].id == "user_1"  # whom rows without a crowd sign in, too
