"""Changes of status, watched at our own gateway."""

import os

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bench import statuses
from tests.bench.loader import Broken, Server
from tests.bench.meter import Meter
from tests.bench.ours import presence_urls, socket_urls
from tests.bench.statuses import changes
from tests.gateway.node import live


async def test_what_a_change_costs_each_watcher(valkey_url: str) -> None:
    async with live(valkey_url, login_rate="0") as node:
        tokens = [await node.token(f"user_{n}") for n in range(1, 5)]
        base = f"http://127.0.0.1:{node.gateways[0].port}"
        server = Server(socket_urls(base, tokens), Meter([os.getpid()]))
        server.presence = presence_urls(base, tokens)
        found = await changes(server, people=4, rate=100, slice_s=0.05, seconds=0.6)
    assert found.figures["cpu_us_per_change"] > 0
    # One frame a change, less what of one person travelled together: on a machine that
    # is busy that may be most.
    frames = found.figures["frames_per_watcher"]
    assert 0 < frames < 1.7
    assert found.figures["bytes_per_watcher"] > 60 * frames


async def test_who_is_not_told_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "STEP_S", 1.0)
    told: list[ServerConnection] = []

    async def enter(socket: ServerConnection) -> None:
        told.append(socket)
        await socket.send('{"type":"presence_full_sync","participants":[]}')
        async for _ in socket:
            await told[0].send('{"type":"presence_update"}')

    async with serve(enter, "127.0.0.1", 0, compression=None) as running:
        url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
        server = Server(lambda room, n: url, Meter([os.getpid()]))
        server.presence = lambda n: url
        with pytest.raises(Broken, match="1 of 2 heard"):
            await changes(server, people=2, rate=20, slice_s=0.02, seconds=0.1)
