"""People on the ground: `cfmessenger load`'s own harness and oracle, and a fault.

Forty rooms of three sockets through the balancer, 200 messages a second; a warm-up, the
fault, and time for all to be well again. Whoever loses a connection comes back; nothing
is judged before everybody has.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from cfmessenger.load import desk
from cfmessenger.load.local_workers import LocalWorker
from cfmessenger.load.plan import Plan, plan
from cfmessenger.load.result import Progress, Result
from cfmessenger.load.run import Wishes, Worker, run
from tests.system.machines.worker import FILE, Noted

ROOMS, SOCKETS, RATE = 40, 120, 200.0
WARM_S = 10.0
AFTER_S = 30.0
MAX_LAG_MS = 10_000.0
"""Three machines on two cores: the generator waits for a core too, which is counted as
a pause of the product's, not as an invalid run."""


class Verdict(NamedTuple):
    """What must not be. `unseen` alone may be the fault's: deliveries, of what is in
    the log, that open sockets had not got some seconds after the end."""

    lost: int  # acknowledged, and not in the log
    doubled: int  # there or shown twice
    reordered: int
    holes: int  # numbers that the log passes over, or that no socket was shown
    unseen: int


Logs = Mapping[str, list[tuple[int, str]]]
"""Of each room what storage holds: seq and id, in the log's order."""


class Figures(NamedTuple):
    """What came of it. Pauses are seconds."""

    result: Result
    noted: Noted

    def judged(self, logs: Logs) -> Verdict:
        """By what sockets saw, and by what is in storage in the end."""
        lost = doubled = holes = 0
        for room, acked in self.noted.acked.items():
            seqs = [seq for seq, _ in logs[room]]
            ids = [message_id for _, message_id in logs[room]]
            lost += len(set(acked) - set(ids))
            doubled += len(ids) - len(set(ids))
            holes += len(set(range(1, max(seqs, default=0) + 1)) - set(seqs))
        seen = self.result.oracle
        return Verdict(
            lost,
            doubled + seen.duplicated,
            seen.reordered,
            holes + seen.gaps,
            seen.lost,
        )

    @property
    def refused(self) -> int:
        """Messages and handshakes that were told to come again."""
        counts = self.result.counts
        errors = (n for name, n in counts.items() if name.startswith("error."))
        return counts.get("refused", 0) + sum(errors)

    @property
    def closed(self) -> dict[str, int]:
        """Sockets that the server or the way there closed, by close code."""
        counts = self.result.counts.items()
        return {
            name.removeprefix("closed."): n
            for name, n in counts
            if name.startswith("closed.")
        }

    def pauses(self, rooms: Iterable[str]) -> list[float]:
        """The longest of each socket in these rooms, in rising order; at least one."""
        found = self.noted.pauses
        return sorted(s for room in rooms for s in found.get(room, {}).values()) or [0]

    @property
    def stayed(self) -> float:
        """The longest pause of those sockets that were never lost."""
        lost = self.noted.lost
        return max(
            (
                seconds
                for room, pauses in self.noted.pauses.items()
                for number, seconds in pauses.items()
                if number not in lost.get(room, ())
            ),
            default=0.0,
        )


def planned(url: str, seconds: float) -> Plan:
    """The load of a row whose fault takes so long."""
    return plan(
        "churn",  # nobody is dropped by it; but it waits for whoever was
        secrets.token_hex(3),
        url=url,
        rooms=ROOMS,
        sockets=SOCKETS,
        rate=RATE,
        arrivals="constant",
        churn_rate=0.0,
        warmup_s=WARM_S,
        duration_s=seconds + AFTER_S,
        max_lag_ms=MAX_LAG_MS,
    )


async def play(
    made: Plan, tokens: list[str], fault: Callable[[], Awaitable[None]]
) -> Figures:
    """The load, with the fault when the warm-up is over. Raises `run.Failure`."""
    warm = asyncio.Event()

    def show(progress: Progress) -> None:
        if progress.phase == "measuring":
            warm.set()

    async def hurt() -> None:
        await warm.wait()
        await fault()

    with tempfile.TemporaryDirectory(prefix="cfm-noted-") as name:
        noted = Path(name, "noted.json")
        hurting = asyncio.create_task(hurt())
        try:
            result = await run(
                made,
                Wishes(sessions=tokens),
                _Launcher(noted),
                tell=lambda text: None,
                show=show,
            )
            await hurting
        finally:
            hurting.cancel()
        return Figures(result, _read(noted))


def _read(noted: Path) -> Noted:
    return msgspec.json.decode(noted.read_bytes(), type=Noted)


class _Launcher:
    """One worker of ours."""

    kind: Literal["local", "ray"] = "local"

    def __init__(self, noted: Path) -> None:
        self._noted = noted

    @asynccontextmanager
    async def launch(self, count: int) -> AsyncIterator[Sequence[Worker]]:
        assert count == 1
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.system.machines.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=desk.MAX_FRAME,
            process_group=0,
            env=os.environ | {FILE: str(self._noted)},
        )
        worker = LocalWorker(process)
        try:
            yield [worker]
        finally:
            await worker.end()
