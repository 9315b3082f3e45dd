"""`python -m tests.bench.cost`: sweeps load, fits the cost model, plans a cluster.

Each sweep changes one thing over a decade or more and keeps the others (`sweep`). What
is printed says which figures were measured and which follow from them. `--write` puts
it into deploy/CAPACITY.md, with the plots of growth beside it. Exit code 0, 1 when
there are no figures at all, 130 when it was interrupted; what there is by then is shown
and kept.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.bench import machine
from tests.bench.launch import measured
from tests.bench.page import number, replaced
from tests.bench.survey_page import page, pictures
from tests.bench.sweep import SWEEPS, Survey, merged, points, take

FOLDER = Path(__file__).parents[2] / "deploy"
PAGE = FOLDER / "CAPACITY.md"
INTERRUPTED = 130


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; a mistyped name ends here."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost")
    option = parser.add_argument
    option("--sweeps", type=_names, metavar="NAMES", help=", ".join(SWEEPS))
    option("--most", type=float, metavar="N", help="no point of more rooms or sockets")
    option("--json", type=Path, metavar="FILE", help="write what was taken here")
    option(
        "--read",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, show these surveys as one",
    )
    option("--write", action="store_true", help="update CAPACITY.md and its plots")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in SWEEPS]:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}: {list(SWEEPS)}")
    return names


async def measure(survey: Survey, sweeps: list[str] | None, most: float | None) -> None:
    """All points of these sweeps into `survey`, with a line on stderr for each."""
    chosen = [
        point
        for point in points()
        if (sweeps is None or point.sweep in sweeps)
        and (most is None or max(point.sizes.values()) <= most)
    ]
    for at, point in enumerate(chosen, 1):
        taken = await take(point)
        survey.taken.append(taken)
        sizes = " ".join(f"{key} {value:g}" for key, value in point.sizes.items())
        said = f"no figures: {taken.reason}"
        if taken.measured is not None:
            figures = taken.measured.figures.items()
            said = ", ".join(f"{key} {number(value)}" for key, value in figures)
        sys.stderr.write(f"{at:3}/{len(chosen)} {point.sweep:12} {sizes}: {said}\n")


def write(survey: Survey) -> None:
    """The page's generated block, and the plots beside it."""
    for name, svg in pictures(survey).items():
        (FOLDER / name).write_text(svg)
    PAGE.write_text(replaced(PAGE.read_text(), page(survey)))


def main() -> int:
    """Measure or read, show, write; the exit code."""
    options = arguments()
    interrupted = False
    if options.read:
        decode = msgspec.json.Decoder(Survey).decode
        survey = merged([decode(path.read_bytes()) for path in options.read])
    else:
        survey = Survey(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", machine.facts())
        interrupted = measured(measure(survey, options.sweeps, options.most))
    if options.json:
        encoded = msgspec.json.encode(survey)
        options.json.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    sys.stdout.write(page(survey) + "\n")
    if interrupted:
        return INTERRUPTED
    if options.write:
        write(survey)
    return 0 if any(taken.measured for taken in survey.taken) else 1


if __name__ == "__main__":
    sys.exit(main())
