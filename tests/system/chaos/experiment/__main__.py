"""`python -m tests.system.chaos.experiment NAME…`: runs them one after another."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.system.chaos.experiment import drain, joins, rooms, sleep, storage, survival

EXPERIMENTS: dict[str, Callable[[int], Coroutine[Any, Any, bool]]] = {
    "sleep": sleep.run,
    "kill-room": rooms.kill,
    "stop-room": rooms.stop,
    "valkey": storage.run,
    "joins": joins.run,
    "drain": drain.run,
    "immutable": survival.immutable,
    "full": survival.full,
    "full-everysec": survival.full_everysec,
    "cleaned": survival.cleaned,
    "hung": survival.hung,
    "year": survival.year,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos.experiment")
    parser.add_argument("names", nargs="+", choices=EXPERIMENTS, metavar="NAME")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    good = True
    for name in options.names:
        sys.stdout.write(f"== {name}, seed {options.seed}\n")
        began = time.monotonic()
        passed = uvloop.run(EXPERIMENTS[name](options.seed))
        word = "passed" if passed else "FAILED"
        sys.stdout.write(f"== {name} {word}, {time.monotonic() - began:.0f} s\n\n")
        good &= passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
