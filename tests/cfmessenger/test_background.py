"""What runs in the background is not lost, and neither is how it failed."""

import asyncio
import gc
from typing import Any

import pytest

from cfmessenger.background import Background

pytestmark = pytest.mark.anyio


async def test_a_task_that_nobody_else_holds_runs_to_its_end() -> None:
    background, ran = Background(), asyncio.Event()

    async def work() -> None:
        asyncio.get_running_loop().call_soon(gc.collect)
        await asyncio.sleep(0)
        ran.set()

    background.begin(work())
    assert len(background) == 1
    await background.settle()
    assert ran.is_set() and not background


async def test_a_failure_is_told_at_once_and_a_cancellation_is_none() -> None:
    background, told = Background(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))

    async def fail() -> None:
        raise ZeroDivisionError

    task = background.begin(fail())
    endless = background.begin(asyncio.Event().wait())  # type: ignore[arg-type]
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [type(each["exception"]) for each in told] == [ZeroDivisionError]
    assert told[0]["task"] is task
    background.cancel()
    await background.settle()
    assert endless.cancelled() and len(told) == 1


async def test_settling_waits_for_what_is_begun_meanwhile_but_no_longer_than_said() -> (
    None
):
    background, ended = Background(), list[str]()

    async def first() -> None:
        background.begin(second())
        ended.append("first")

    async def second() -> None:
        await asyncio.sleep(0)
        ended.append("second")

    background.begin(first())
    await background.settle()
    assert ended == ["first", "second"]
    background.begin(asyncio.Event().wait())  # type: ignore[arg-type]
    await background.settle(0.01)
    assert len(background) == 1, "it was not cancelled"
    background.cancel()
    await background.settle()
