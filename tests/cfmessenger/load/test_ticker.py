"""Waiting for a moment that lies between two ticks of the loop."""

from __future__ import annotations

import math

import uvloop

from cfmessenger.load.ticker import Ticker, now
from tests import patience


async def test_it_is_never_early_and_the_past_does_not_wait() -> None:
    with Ticker() as ticker:
        for ms in (0.3, 1.7, 2.2):
            due = now() + ms / 1000
            await ticker.until(due)
            assert now() >= due
        await ticker.until(now() - 1.0)


async def test_a_tick_gathers_what_is_due_in_it() -> None:
    with Ticker(0.02) as ticker:
        due = (math.floor(now() / 0.02) + 1.1) * 0.02
        await ticker.until(due)
        assert now() >= (math.floor(due / 0.02) + 1) * 0.02


def test_it_works_on_the_loop_that_workers_use() -> None:
    async def main() -> float:
        with Ticker() as ticker:
            due = now() + 0.0015
            await patience.wait_for(ticker.until(due), 5)
            return now() - due

    assert uvloop.run(main()) >= 0
