"""A turn: flushes, then commits, then writes; what is asked for late comes next."""

import asyncio
from typing import Any

from actors.turn import Turn


async def ended(turn: Turn) -> None:
    """Until what was asked for is done, and what that asked for."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_builds_on_something_comes_after_it_in_one_turn() -> None:
    turn, done = Turn(asyncio.get_running_loop()), list[str]()

    def flush() -> None:
        done.append("flush")
        turn.commit(lambda: done.append("asked for by a flush"))
        turn.write(lambda: done.append("written for a flush"))

    turn.write(lambda: done.append("write"))
    turn.commit(lambda: done.append("commit"))
    turn.flush(flush)
    await asyncio.sleep(0)
    assert done == [
        "flush",
        "commit",
        "asked for by a flush",
        "write",
        "written for a flush",
    ]


async def test_what_a_later_step_asks_of_an_earlier_one_is_the_next_turns() -> None:
    turn, done = Turn(asyncio.get_running_loop()), list[str]()

    def write() -> None:
        turn.flush(lambda: done.append("flushed again"))
        turn.write(lambda: done.append("written again"))
        done.append("written")

    turn.write(write)
    await asyncio.sleep(0)
    assert done == ["written"]
    await ended(turn)
    assert done == ["written", "flushed again", "written again"]


async def test_a_fault_of_one_is_told_and_stops_nobody() -> None:
    loop = asyncio.get_running_loop()
    turn, done = Turn(loop), list[str]()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    def fail() -> None:
        raise RuntimeError("a bug of this object")

    turn.flush(fail)
    turn.flush(lambda: done.append("flush"))
    turn.write(lambda: done.append("write"))
    await ended(turn)
    assert done == ["flush", "write"]
    (context,) = told
    assert isinstance(context["exception"], RuntimeError)
