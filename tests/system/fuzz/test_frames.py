"""WebSocket frames, byte by byte, against a live gateway.

Each case opens a socket and sends a few things: frames that are right, mutated,
fragmented, dribbled, repeated, and at the end perhaps one that no socket survives. What
comes back is held against `oracle` and RFC 6455 as wire.md §6 applies it; then the next
good message works, on the same socket or a fresh one, and somebody else in the room has
seen exactly what was accepted and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.effort import tries
from tests.gateway.node import Node, live, new_room
from tests.system.fuzz import oracle
from tests.system.fuzz.bench import Bench, witnessed
from tests.system.fuzz.inputs import (
    Frame,
    Step,
    control,
    dribbled,
    fatal,
    presence_frames,
    repeated,
    room_frames,
    said,
    texts,
    unasked,
    vanishing,
)

ROOM_CASES, PRESENCE_CASES = tries(300), tries(60)


def fuzz(
    bench: Bench, frames: st.SearchStrategy[Frame], types: Any, cases: int
) -> None:
    """So many cases, always the same ones.

    Not shrunk: a case says something new each time, and the room remembers.
    """
    good = said(texts(frames), types)
    harmless = st.one_of(good, good, dribbled(good), control, unasked)
    if bench.room:
        harmless = st.one_of(harmless, repeated())
    end = st.one_of(st.none(), fatal, fatal, fatal, vanishing)
    witness = bench.open(1)

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(harmless, max_size=5), end)
    def case(steps: list[Step], end: Step | None) -> None:
        bench.run(steps, end)
        if bench.room:
            witnessed(bench, witness)

    try:
        case()
    finally:
        witness.close()


@pytest.fixture
async def node(valkey_url: str) -> AsyncIterator[Node]:
    async with live(valkey_url, chat_rate="0", nudge_rate="0") as running:
        yield running


async def bench_of(node: Node, room: bool) -> Bench:
    tokens = (await node.token("user_1"), await node.token("user_2"))
    path = f"/api/ws/room/{new_room()}" if room else "/api/ws/presence"
    return Bench(node.gateways[0].port, path, tokens, room)


def summary(where: str, bench: Bench) -> str:
    kinds = ", ".join(f"{name} {n}" for name, n in sorted(bench.steps.items()))
    total = sum(bench.steps.values())
    return f"{where}: {bench.cases} sockets, {total} inputs ({kinds})"


async def test_a_room_socket_answers_every_input_as_documented(
    node: Node, tell: Callable[[str], None]
) -> None:
    bench = await bench_of(node, room=True)
    await asyncio.to_thread(fuzz, bench, room_frames, oracle.ROOM, ROOM_CASES)
    tell(summary("room socket", bench))


async def test_a_presence_socket_answers_every_input_as_documented(
    node: Node, tell: Callable[[str], None]
) -> None:
    bench = await bench_of(node, room=False)
    await asyncio.to_thread(
        fuzz, bench, presence_frames, oracle.PRESENCE, PRESENCE_CASES
    )
    tell(summary("presence socket", bench))
