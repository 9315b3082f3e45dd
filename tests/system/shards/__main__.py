"""`python -m tests.system.shards [--row NAME] [--runs N]`: its exit code judges."""

from __future__ import annotations

import argparse
import random
import sys
import time

import uvloop

from tests.system.chaos.here import Here
from tests.system.shards import rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.shards")
    parser.add_argument("--row", action="append", choices=rows.ROWS, metavar="NAME")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument(
        "--here", action="store_true", help="without Ray, in one process"
    )
    options = parser.parse_args()
    if options.here:
        rows.KIND = Here
    bad = 0
    for name in options.row or rows.ROWS:
        for seed in range(options.seed, options.seed + options.runs):
            sys.stdout.write(f"== {name}, seed {seed}\n")
            began = time.monotonic()
            passed = uvloop.run(rows.ROWS[name](seed))
            word = "passed" if passed else "FAILED"
            sys.stdout.write(f"== {name} {word}, {time.monotonic() - began:.0f} s\n\n")
            sys.stdout.flush()
            bad += not passed
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
