"""`python -m tests.bench.secured`: the row of many busy rooms, with clear links and
with mutual TLS, in turn; each on a messenger that has just been started."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.authority import MISSING, Authority
from tests.bench import machine
from tests.bench.measures import paced
from tests.bench.ours import messenger
from tests.bench.plan import FULL

SETTINGS = ("CFM_TLS_CA", "CFM_TLS_CERT", "CFM_TLS_KEY")


async def measure(repetitions: int) -> None:
    with tempfile.TemporaryDirectory(prefix="cfm-secured-") as folder:
        files = Authority(Path(folder)).sign("machine", "IP:127.0.0.1,IP:127.0.0.2")
        named = map(str, (files.ca, files.cert, files.key))
        tls = dict(zip(SETTINGS, named, strict=True))
        for _ in range(repetitions):
            for what, settings in (("clear", {}), ("mTLS", tls)):
                async with messenger("pooled", **settings) as server:
                    found = await paced(server, **FULL["paced"])
                figures = {name: round(each, 1) for name, each in found.figures.items()}
                parts = found.parts["cpu_us_per_message"]
                whose = {kind: round(each) for kind, each in parts.items()}
                notes = found.notes or ""
                sys.stdout.write(f"{what:6} {figures} of which {whose} {notes}\n")
                sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.secured", None, __doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if MISSING:
        raise SystemExit(MISSING)
    sys.stdout.write(f"{machine.facts()}\n")
    asyncio.run(measure(options.repetitions))


if __name__ == "__main__":
    main()
