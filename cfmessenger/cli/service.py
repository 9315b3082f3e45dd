"""What `up` runs, as the supervisor is told of it: a service and how to launch it once.

Also the exit codes by which a child tells its supervisor more than that it failed, and
how a probe is asked.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

PROBE_S = 0.02

EXIT_LOST = 75
"""A child ends with it when what it follows does not answer: that one is replaced."""
EXIT_TAKEN = 76
"""The namespace server ends with it when another cluster took Valkey over."""
EXIT_DRAINED = 77
"""The namespace server ends with it when Ray has told this node to leave: it has."""


class Launch(msgspec.Struct, frozen=True):
    """How to run a child once; asked for anew before each run.

    `output` (None: our stderr) and `handed` are descriptors made for this run: closed
    here after the spawn, so that those of `handed` are the child's alone.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    inherit: Sequence[int] = ()
    output: int | None = None
    handed: Sequence[int] = ()


class Service(msgspec.Struct, frozen=True):
    """A child to keep running.

    `probe` says whether the child serves and is asked until it does; without one the
    child is expected to say so (`cli/voice.py`). It is spawned when all of `needs` are
    ready, and ended when `follows` ends, because it could not go on without it.
    While it is ready, `alive` (or its own beats) tells that it answers, and `reached`
    whether the files that others reach it by still exist. `ended` is called with the id
    of each process that has ended, and `reason` with its exit code, for one sentence
    out of its log. `launch` raises `Refused` for what trying again will not heal.
    """

    name: str
    launch: Callable[[], Launch]
    probe: Callable[[], Awaitable[bool]] | None = None
    needs: tuple[str, ...] = ()
    follows: str | None = None
    alive: Callable[[], Awaitable[bool]] | None = None
    reached: Callable[[], bool] | None = None
    ended: Callable[[int], None] | None = None
    reason: Callable[[int], str] | None = None
    ready_s: float = 30.0
    death_signal: signal.Signals = signal.SIGKILL


async def serves(probe: Callable[[], Awaitable[bool]]) -> None:
    """Returns when the probe says yes."""
    # Another process cannot set an event of ours.
    while not await probe():  # noqa: ASYNC110
        await asyncio.sleep(PROBE_S)


async def answers(probe: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    """Whether the probe says yes in this time."""
    try:
        async with asyncio.timeout(within_s):
            return await probe()
    except OSError:  # and the TimeoutError of the line above
        return False
