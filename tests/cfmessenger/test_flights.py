"""Many want the same at once: it is attempted once, and nobody gets an old outcome."""

import asyncio

import pytest

from cfmessenger.flights import Flights

pytestmark = pytest.mark.anyio


async def begun() -> None:
    """Who wants something runs first, then the attempt that it begins."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Attempts:
    """Counts those that were begun; each ends when `outcome` says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def attempt(self) -> int:
        self.begun += 1
        return await self.outcome


async def test_all_who_come_meanwhile_share_one_attempt_and_later_ones_do_not() -> None:
    flights, attempts = Flights[int](), Attempts()
    wanting = [
        asyncio.create_task(flights.join("a", attempts.attempt)) for _ in range(9)
    ]
    await begun()
    other = asyncio.create_task(flights.join("b", attempts.attempt))
    await begun()
    assert attempts.begun == 2, "one for each thing that is wanted"
    attempts.outcome.set_result(7)
    assert await asyncio.gather(other, *wanting) == [7] * 10
    assert await flights.join("a", attempts.attempt) == 7
    assert attempts.begun == 3


async def test_who_comes_as_it_ends_does_not_get_its_outcome() -> None:
    flights, attempts = Flights[int](), Attempts()

    async def last_step() -> int:
        # Runs when this one is done, before anybody has looked at it.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: late.append(loop.create_task(second())))
        return 1

    async def second() -> int:
        return await flights.join("a", attempts.attempt)

    late = list[asyncio.Task[int]]()
    attempts.outcome.set_result(2)
    assert await flights.join("a", last_step) == 1
    await asyncio.sleep(0)
    assert await late[0] == 2


async def test_a_failure_is_everybodys_and_the_next_one_tries_again() -> None:
    flights, attempts = Flights[int](), Attempts()
    wanting = [
        asyncio.create_task(flights.join("a", attempts.attempt)) for _ in range(3)
    ]
    await begun()
    attempts.outcome.set_exception(ZeroDivisionError())
    failed = await asyncio.gather(*wanting, return_exceptions=True)
    assert [type(each) for each in failed] == [ZeroDivisionError] * 3
    with pytest.raises(ZeroDivisionError):
        await flights.join("a", attempts.attempt)
    assert attempts.begun == 2


async def test_who_gives_up_takes_nobody_along() -> None:
    flights, attempts = Flights[int](), Attempts()
    first = asyncio.create_task(flights.join("a", attempts.attempt))
    await begun()
    second = asyncio.create_task(flights.join("a", attempts.attempt))
    await begun()
    first.cancel()
    await asyncio.wait([first])
    attempts.outcome.set_result(7)
    assert await second == 7 and attempts.begun == 1


async def test_cancelled_they_have_all_ended() -> None:
    flights, attempts = Flights[int](), Attempts()
    wanting = asyncio.create_task(flights.join("a", attempts.attempt))
    await begun()
    await flights.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wanting
    assert attempts.outcome.cancelled()
