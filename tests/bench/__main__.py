"""`python -m tests.bench`: measures, prints tables, writes the pages when asked to.

Interleaved: for every row each contestant in turn, then the next row, and all of that
once a repetition, so that what the machine does meanwhile meets all of them. Every
measurement gets a server that has just been started. Exit code 0, 1 when there are no
figures at all, 130 when it was interrupted; what there is by then is shown and kept.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import arrivals, machine, measures, page, plan
from tests.bench.contestants import CONTESTANTS, Contestant
from tests.bench.launch import measured
from tests.bench.loader import Broken
from tests.bench.packages import Missing
from tests.bench.summary import (
    Entrant,
    Failure,
    Measured,
    Result,
    Sample,
    merged,
)

ROOT = Path(__file__).parents[2]
MEASURES: dict[str, Any] = {
    "fanout": measures.fanout,
    "full": measures.paced,
    "paced": measures.paced,
    "calm": measures.paced,
    "idle": measures.idle,
    "gather": arrivals.gather,
    "crowd": arrivals.crowd,
    "open": arrivals.conversations,
    "wake": measures.wake,
}
COUNTS = {"sockets", "window", "rooms", "per_room", "before", "people"}
LIMIT_S = 180.0
INTERRUPTED = 130


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; a mistyped name ends here."""
    keys = [each.key for each in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    option = parser.add_argument
    option("--quick", action="store_true", help="a smoke run, about a minute")
    option("--repetitions", type=int, metavar="N", help="3, or 1 with --quick")
    option("--only", type=_names(keys), metavar="NAMES", help=", ".join(keys))
    option(
        "--rows",
        type=_names(list(plan.FULL)),
        metavar="ROWS",
        help=", ".join(plan.FULL),
    )
    option("--json", type=Path, metavar="FILE", help="write the result here")
    option(
        "--read",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, show these results as one",
    )
    option("--write", action="store_true", help="update BENCHMARKS.md and README.md")
    return parser.parse_args(argv)


def _names(allowed: list[str]) -> Any:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}: {allowed}")
        return names

    return read


class Run:
    """One run: what has been measured so far, and what could not be."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._plan = plan.QUICK if options.quick else plan.FULL
        keys = options.only or (plan.QUICK_CONTESTANTS if options.quick else None)
        self._contestants = [e for e in CONTESTANTS if not keys or e.key in keys]
        rows = options.rows or list(self._plan)
        self._plan = {row: (self._plan | plan.FULL)[row] for row in rows} | {
            row: sizes for row, sizes in self._plan.items() if row in rows
        }
        self._repetitions = options.repetitions or (1 if options.quick else 3)
        self._started_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        self._samples: list[Sample] = []
        self._failures: list[Failure] = []
        self._missing: dict[str, str] = {}

    async def measure(self) -> None:
        """All of it, with a line on stderr for each step."""
        steps = [
            (repetition, row, contestant)
            for repetition in range(1, self._repetitions + 1)
            for row in self._plan
            for contestant in self._contestants
            if contestant.presence or row not in plan.NEEDS_PRESENCE
        ]
        began = time.monotonic()
        for at, (repetition, row, contestant) in enumerate(steps, 1):
            said = await self._step(repetition, row, contestant)
            left = (time.monotonic() - began) / at * (len(steps) - at)
            sys.stderr.write(
                f"{at:3}/{len(steps)} {repetition} {row:7} {contestant.key:15} {said}"
                f"  [{left / 60:.0f} min left]\n"
            )

    def result(self) -> Result:
        """What has been measured so far."""
        return Result(
            started_at=self._started_at,
            machine=machine.facts(),
            versions=machine.versions(),
            plan=self._plan,
            repetitions=self._repetitions,
            entrants=[Entrant(e.key, e.title, e.promise) for e in self._contestants],
            samples=self._samples,
            failures=self._failures,
        )

    async def _step(self, repetition: int, row: str, contestant: Contestant) -> str:
        reason = self._missing.get(contestant.key)
        if reason is None:
            try:
                found = await self._measured(row, contestant)
            except Missing as missing:
                reason = self._missing[contestant.key] = str(missing)
            except (Broken, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            else:
                self._samples.append(
                    Sample(
                        row,
                        contestant.key,
                        repetition,
                        found.figures,
                        found.parts,
                        found.notes,
                    )
                )
                said = [f"{k} {page.number(v)}" for k, v in found.figures.items()]
                return ", ".join((*said, *found.notes))
        self._failures.append(Failure(row, contestant.key, repetition, reason))
        return f"no figures: {reason}"

    async def _measured(self, row: str, contestant: Contestant) -> Measured:
        sizes = plan.sizes(
            self._plan,
            row,
            sleeps=contestant.sleeps,
            room_process=contestant.room_process,
        )
        typed = {k: int(v) if k in COUNTS else v for k, v in sizes.items()}
        people = typed.get("people", 0)
        if row != "crowd":
            typed.pop("people", None)  # who there is, not what is done
        async with contestant.start(int(people)) as server:
            async with asyncio.timeout(LIMIT_S):
                found: Measured = await partial(MEASURES[row], server, **typed)()
        started = [f"at its start {server.note}"] if server.note else []
        return msgspec.structs.replace(found, notes=[*started, *found.notes])


def show(result: Result) -> str:
    """The tables, for a terminal."""
    parts = [page.machine(result)]
    for row in plan.ROWS:
        if found := page.row_table(result, row.key):
            parts += [f"{row.title} ({row.key})\n{found}"]
            parts += [page.parts_table(result, row.key)]
    parts += [page.ratio_table(result), page.notes(result), page.failures(result)]
    return "\n\n".join(part for part in parts if part)


def write(result: Result) -> None:
    """Replaces the generated blocks of both pages."""
    for name, block in (
        ("BENCHMARKS.md", page.page(result)),
        ("README.md", page.excerpt(result)),
    ):
        path = ROOT / name
        path.write_text(page.replaced(path.read_text(), block))


def main() -> int:
    """Measure or read, show, write; the exit code."""
    options = arguments()
    interrupted = False
    if options.read:
        decode = msgspec.json.Decoder(Result).decode
        result = merged([decode(path.read_bytes()) for path in options.read])
    else:
        run = Run(options)
        interrupted = measured(run.measure())
        result = run.result()
    if options.json:
        encoded = msgspec.json.encode(result)
        options.json.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    sys.stdout.write(show(result) + "\n")
    if interrupted:
        return INTERRUPTED
    if options.write:
        write(result)
    return 0 if result.samples else 1


if __name__ == "__main__":
    sys.exit(main())
