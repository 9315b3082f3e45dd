"""The loader's clock: due when due, and no more under way than there may be."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.bench.pacer import AT_LEAST, Pacer


async def reached(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not there():  # noqa: ASYNC110 - a count, and the clock
            await asyncio.sleep(0.001)


async def test_messages_are_due_at_their_times_and_in_order() -> None:
    said: list[tuple[int, float]] = []
    enough = asyncio.Event()

    def say(n: int, due: float) -> None:
        assert time.perf_counter() >= due
        said.append((n, due))
        if n == 20:
            enough.set()

    pacer = Pacer(1000.0, say, lambda: pacer.sent)
    async with pacer.going():
        await enough.wait()
    assert [n for n, _ in said] == list(range(pacer.sent))
    assert said[20][1] - said[0][1] == pytest.approx(0.02)


async def test_a_server_that_answers_nothing_is_not_buried() -> None:
    held = asyncio.Event()

    def say(n: int, due: float) -> None:
        if n == AT_LEAST - 1:
            held.set()

    pacer = Pacer(100_000.0, say, lambda: 0.0)
    pacer._most = AT_LEAST
    async with pacer.going():
        await held.wait()
        for _ in range(10):
            await asyncio.sleep(0)
    assert pacer.sent == AT_LEAST
    assert pacer.note == ""  # what was late then was the server's doing


async def test_what_was_owed_before_the_window_is_not_owed_in_it() -> None:
    dues: list[float] = []
    answered = 0

    def say(n: int, due: float) -> None:
        dues.append(due)

    pacer = Pacer(1000.0, say, lambda: answered)
    async with pacer.going():
        await reached(lambda: pacer.sent == 500)  # half a second's worth
        await reached(lambda: time.perf_counter() > dues[-1] + 0.05)
        began = time.perf_counter()
        pacer.measure()
        answered = 500
        await reached(lambda: pacer.sent > 500)
    assert dues[500] >= began


async def test_a_loader_that_is_late_itself_says_so() -> None:
    enough = asyncio.Event()

    def say(n: int, due: float) -> None:
        time.sleep(0.002)  # it cannot do 10,000 a second then
        if n == 100:
            enough.set()

    pacer = Pacer(10_000.0, say, lambda: pacer.sent)
    async with pacer.going():
        await enough.wait()
        assert "late" in pacer.note
        pacer.measure()
        assert pacer.note == ""


async def test_a_fault_while_speaking_is_not_lost() -> None:
    def say(n: int, due: float) -> None:
        raise RuntimeError("a bug")

    pacer = Pacer(1000.0, say, lambda: 0.0)
    with pytest.raises(RuntimeError, match="a bug"):
        async with pacer.going():
            await asyncio.sleep(0.05)
