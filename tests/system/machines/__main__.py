"""`python -m tests.system.machines`: plays rows and prints one line for each run.

`pause` is the longest of all sockets, `stayed` of those that were never lost, `theirs`
of those in rooms that lived where the fault was, `half` the median of these; `unseen`
is what open sockets still lacked when the load had ended, though it is in the log.

Its exit code is 1 when something acknowledged was lost, doubled, reordered or skipped
in any of them; all other figures are there to be read.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from cfmessenger.load.run import Failure
from tests.system.machines.ground import ground
from tests.system.machines.letter import letter
from tests.system.machines.network import unavailable
from tests.system.machines.rows import ROWS, Played, load_ray, row, spread
from tests.system.machines.trust import trusted

HEAD = (
    f"{'fault':24}{'pause':>8}{'stayed':>8}{'theirs':>8}{'half':>7}{'acked':>8}"
    f"{'refused':>9}{'closed':>8}"
    f"{'lost':>6}{'doubled':>9}{'reordered':>11}{'holes':>7}{'unseen':>8}{'took':>7}"
)
REST_S = 20.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.machines", description=__doc__
    )
    parser.add_argument("--row", action="append", choices=[*ROWS, *OTHERS])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the machines' logs")
    parser.add_argument("--list", action="store_true", help="what rows there are")
    return parser.parse_args()


def line(name: str, played: Played, took: float) -> str:
    figures = played.figures
    verdict, counts = played.verdict, figures.result.counts
    every, theirs = figures.pauses(figures.noted.pauses), figures.pauses(played.theirs)
    half = theirs[len(theirs) // 2]
    acked = counts.get("acked", 0)
    return (
        f"{name:24}{every[-1]:8.2f}{figures.stayed:8.2f}{theirs[-1]:8.2f}{half:7.2f}"
        f"{acked:8}"
        f"{figures.refused:9}{sum(figures.closed.values()):8}{verdict.lost:6}"
        f"{verdict.doubled:9}{verdict.reordered:11}{verdict.holes:7}"
        f"{verdict.unseen:8}{took:6.0f}s"
    )


def details(played: Played) -> list[str]:
    """What the line adds up: the reasons of refusals and closes, and what was wrong."""
    result = played.figures.result
    counts = {
        name: n
        for name, n in result.counts.items()
        if name.startswith(("error.", "closed.")) or name in ("refused", "gap", "left")
    }
    said = [f"{name} {n}" for name, n in counts.items()]
    return [*([", ".join(said)] if said else []), *result.oracle.examples[:5]]


async def play(name: str, keep: bool) -> bool:
    """Whether nothing was wrong."""
    began = time.monotonic()
    if name in OTHERS:
        say(f"{name}: {await OTHERS[name]()}")
        return True
    try:
        played = await row(name, keep)
    except Failure as failure:
        say(f"{name:24}the load could not be carried out: {failure}")
        return False
    say(line(name, played, time.monotonic() - began))
    for each in details(played):
        say(f"    {each}")
    if keep:
        say(f"    logs: {played.logs}")
    return not any(played.verdict._replace(unseen=0))


async def evened() -> str:
    """How many of 300 rooms live in each machine."""
    return ", ".join(f"{where} {n}" for where, n in sorted((await spread()).items()))


async def rest() -> str:
    """What the ground costs when nobody says anything."""
    began = time.monotonic()
    async with ground() as on:
        ready = time.monotonic() - began
        before = on.cost()
        await asyncio.sleep(REST_S)
        after = on.cost()
    cores = (after["cpu_ms"] - before["cpu_ms"]) / 1000 / REST_S
    return (
        f"ready in {ready:.1f} s, {after['processes']} processes, "
        f"{after['mib']} MiB, {cores:.2f} of a core"
    )


async def followed() -> str:
    """docs/cluster.md to the letter, and people at two of its gateways."""
    began = time.monotonic()
    async with letter() as on:
        told = await on.follow()
        await on.chat()
    told.append(
        f"two people chat across two gateways; {time.monotonic() - began:.0f} s"
    )
    return "\n    ".join(["the page holds", *told])


OTHERS: dict[str, Callable[[], Awaitable[str]]] = {
    "spread": evened,
    "rest": rest,
    "letter": followed,
    "load_ray": load_ray,
    "trust": trusted,
}
"""Rows that are no fault under load: what each has to say."""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


def main() -> int:
    options = arguments()
    if options.list:
        for name, each in ROWS.items():
            say(f"{name:24}{each.what}")
        for name, other in OTHERS.items():
            say(f"{name:24}{(other.__doc__ or '').partition('.')[0]}")
        return 0
    if reason := unavailable():
        say(f"no machines here: {reason}")
        return 2
    say(HEAD)
    names = [name for name in options.row or ROWS for _ in range(options.runs)]
    fine = [asyncio.run(play(name, options.keep)) for name in names]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
