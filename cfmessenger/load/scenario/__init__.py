"""What each scenario does: how everybody gets in, and what happens then.

Each module has `run(crew, times)`, which returns when its last message is sent, and may
have a `connect(crew)` of its own. The names are looked up here, so that a worker
imports the one it needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import NamedTuple

from cfmessenger.load.crew import Crew
from cfmessenger.load.plan import Scenario

from .times import Times

_MODULES: dict[Scenario, str] = {
    "fanout": "steady",
    "rooms": "steady",
    "slow-consumer": "slow",
    "mixed": "mixed",
    "idle": "idle",
    "wake": "wake",
    "churn": "churn",
    "presence-storm": "presence",
    "hot": "hot",
    "open": "opening",
    "crowd": "coming",
    "gather": "coming",
}


class Script(NamedTuple):
    """A scenario's two acts."""

    connect: Callable[[Crew], Awaitable[None]]
    run: Callable[[Crew, Times], Awaitable[None]]


def find(scenario: Scenario) -> Script:
    """The scenario's script."""
    module = import_module(f"{__name__}.{_MODULES[scenario]}")
    return Script(getattr(module, "connect", _everybody), module.run)


async def _everybody(crew: Crew) -> None:
    await crew.lines.connect(crew.slow, slow=True)
    await crew.lines.connect(crew.seats)
