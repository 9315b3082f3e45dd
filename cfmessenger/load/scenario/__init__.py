"""What each scenario does once everybody is connected.

Each module has one `run(crew, times)`, which returns when its last message is sent. The
names are looked up here, so that a worker imports the one it needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import cast

from cfmessenger.load.crew import Crew
from cfmessenger.load.plan import Scenario

from .times import Times

Run = Callable[[Crew, Times], Awaitable[None]]

_MODULES: dict[Scenario, str] = {
    "fanout": "steady",
    "rooms": "steady",
    "slow-consumer": "slow",
    "mixed": "mixed",
    "idle": "idle",
    "wake": "wake",
    "churn": "churn",
    "presence-storm": "presence",
}


def find(scenario: Scenario) -> Run:
    """The scenario's `run`."""
    module = import_module(f"{__name__}.{_MODULES[scenario]}")
    return cast(Run, module.run)
