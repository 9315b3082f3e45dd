"""Measurements of our own gateway, and of servers that do not do the work."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bench import measures
from tests.bench.loader import Broken, Ear, Server
from tests.bench.measures import fanout, idle, paced, wake
from tests.bench.meter import Meter
from tests.bench.summary import Measured
from tests.gateway.node import live


@asynccontextmanager
async def peer(
    seq_step: int = 1, loses: int = 0, holds_s: float = 0.0
) -> AsyncIterator[Server]:
    """A room server in this process; it loses its `loses`-th message, and takes so long
    for each."""
    rooms: dict[str, set[ServerConnection]] = {}
    seq = 0

    async def enter(socket: ServerConnection) -> None:
        nonlocal seq
        assert socket.request is not None
        room = rooms.setdefault(socket.request.path, set())
        room.add(socket)
        await socket.send('{"type":"system"}')
        async for text in socket:
            seq += seq_step
            if seq == loses:
                continue
            if holds_s:
                await asyncio.sleep(holds_s)
            event = {"type": "chat", "content": json.loads(text)["content"], "seq": seq}
            line = json.dumps(event, separators=(",", ":"))
            for each in room:
                await each.send(line)

    async with serve(enter, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        yield Server(
            lambda room, n: f"ws://127.0.0.1:{port}/{room}", Meter([os.getpid()])
        )


def parts_add_up(found: Measured, figure: str) -> bool:
    return sum(found.parts[figure].values()) == pytest.approx(found.figures[figure])


async def test_our_gateway_is_measured_in_every_row(valkey_url: str) -> None:
    async with live(valkey_url, chat_rate="0", login_rate="0") as node:
        tokens = [await node.token(f"user_{n}") for n in (1, 2, 3)]
        port = node.gateways[0].port

        def url(room: str, n: int) -> str:
            query = f"sessionId={tokens[n % len(tokens)]}"
            return f"ws://127.0.0.1:{port}/api/ws/room/{room}?{query}"

        server = Server(url, Meter([os.getpid()]))
        busy = await fanout(server, sockets=5, window=2, slice_s=0.05, seconds=0.2)
        assert busy.figures["deliveries_per_s"] > 0
        held: dict[str, float] = {}
        while "p50_ms" not in held:  # a machine may be too busy for one in 0.3 s
            found = await paced(
                server, rooms=2, per_room=2, rate=50, slice_s=0.05, seconds=0.3
            )
            held = found.figures
        assert 0 < held["p50_ms"] <= held["p99_ms"]
        assert held["messages_per_s"] > 0
        assert parts_add_up(found, "cpu_us_per_message")
        still = await idle(server, sockets=10, before=2, quiet_s=0.05, rest_s=0.05)
        assert still.figures["cpu_ms_per_accept"] > 0
        assert still.figures["cpu_percent_at_rest"] >= 0
        assert parts_add_up(still, "cpu_ms_per_accept")
        woken = await wake(server, rooms=2, pause_s=0, sleep_s=0.01, quiet_s=0.05)
        assert woken.figures["new_p50_ms"] > 0 and woken.figures["woken_p50_ms"] > 0


async def test_who_falls_behind_has_its_own_pace_and_no_latency() -> None:
    async with peer(holds_s=0.004) as server:
        found = await paced(
            server, rooms=1, per_room=1, rate=1000, slice_s=0.02, seconds=0.3
        )
    assert 0 < found.figures["messages_per_s"] < 300
    assert "p99_ms" not in found.figures


async def test_a_server_that_neither_greets_nor_numbers_is_measured_too() -> None:
    sockets: set[ServerConnection] = set()

    async def enter(socket: ServerConnection) -> None:
        sockets.add(socket)
        async for text in socket:
            for each in sockets:
                await each.send(text)

    async with serve(enter, "127.0.0.1", 0, compression=None) as running:
        port = running.sockets[0].getsockname()[1]
        server = Server(lambda room, n: f"ws://127.0.0.1:{port}/", Meter([os.getpid()]))
        server.greets = server.numbers = False
        found = await fanout(server, sockets=3, window=2, slice_s=0.02, seconds=0.1)
    assert found.figures["deliveries_per_s"] > 0


async def test_a_server_whose_rooms_never_sleep_has_no_figures_of_waking() -> None:
    async with peer() as server:
        found = await wake(server, rooms=2, pause_s=0, sleep_s=0, quiet_s=0.05)
    assert found.figures.keys() == {"new_p50_ms", "kib_per_room"}


async def test_a_server_that_loses_a_message_has_no_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures, "DRAIN_S", 0.2)
    async with peer(loses=5) as server:
        with pytest.raises(Broken, match="of [0-9]+ deliveries came"):
            await paced(
                server, rooms=1, per_room=2, rate=100, slice_s=0.02, seconds=0.1
            )


async def test_a_server_whose_seq_has_holes_has_no_figures() -> None:
    async with peer(seq_step=2) as server:
        with pytest.raises(Broken, match="seq was broken"):
            await fanout(server, sockets=2, window=2, slice_s=0.02, seconds=0.1)


def test_an_ear_counts_latency_only_while_it_is_told_to() -> None:
    ear = Ear(since=2.0, until=4.0)
    for seq, intended in ((1, 1.0), (2, 2.5), (4, 3.0), (5, 4.0)):
        body = {"type": "chat", "seq": seq, "content": f"{intended:.6f} xxx"}
        ear.hear(json.dumps(body).encode())
    assert len(ear.latencies_s) == 2
    assert ear.breaks == 1


async def test_cpu_of_a_child_that_ended_stays_counted() -> None:
    meter = Meter([os.getpid()])
    before = meter.cpu_s()
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    )
    await child.wait()
    assert meter.cpu_s() > before
