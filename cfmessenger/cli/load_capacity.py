"""`cfmessenger load capacity`: how much of a scenario a messenger takes.

Owns the flags of the search and what is printed and written; the search is
`cfmessenger.load.climb`'s.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cfmessenger.cli.load_flags import (
    COMMON,
    EXIT_INVALID,
    EXIT_MISSED,
    EXIT_UNREACHABLE,
    EXIT_VIOLATION,
    FLAGS,
    OF,
    launcher_of,
    options,
    planned,
    wishes_of,
)
from cfmessenger.cli.running import serving_pid
from cfmessenger.load import result as results
from cfmessenger.load.capacity import (
    AXES,
    UNITS,
    Axis,
    Capacity,
    Search,
    Step,
    Thresholds,
    encode,
)
from cfmessenger.load.climb import climb
from cfmessenger.load.plan import Plan, Scenario
from cfmessenger.load.result import Result
from cfmessenger.load.run import Failure, Launcher, Wishes, run

_HELP = """Raise a scenario until something breaks, and say what was in the way.

It doubles the rate (or the sockets, or the conversations) until a threshold is
broken, then halves the distance between what held and what did not. Each try is a
whole run with rooms of its own, a warm-up and every check of `cfmessenger load`. What
breaks is the p99 of the latency, the share that was refused or closed, or a process of
the server at a full core.

Which process was the limit, and what it did with its time (its own code, the kernel,
waiting for a core, by thread), is known of processes on this machine: those of the
messenger that runs here, or --procs. With py-spy on the path the functions are sampled,
too.

\b
Exit codes beside those of `cfmessenger load`:
  0  something held
  3  nothing held"""

_RAISED: dict[Axis, tuple[str, ...]] = {
    "rate": ("rate", "changes", "messages", "window"),
    "sockets": ("sockets",),
    "rooms": ("rooms",),
}
"""Flags that the search takes the place of."""

_START: dict[Axis, tuple[float, float]] = {
    "rate": (100.0, 200_000.0),
    "sockets": (100.0, 50_000.0),
    "rooms": (10.0, 20_000.0),
}
DURATION_S = 5.0

_positive = click.FloatRange(min=0, min_open=True)
_whole = click.FloatRange(min=1)
_share = click.FloatRange(min=0, max=1)
_SEARCH = (
    click.option("--from", "start", type=_whole, help="Try that first."),
    click.option("--to", "top", type=_whole, help="And no more than that."),
    click.option(
        "--precision",
        type=_positive,
        default=0.1,
        show_default=True,
        help="How much more than what held may be left unknown.",
    ),
    click.option(
        "--max-p99",
        "p99_ms",
        type=_positive,
        default=50.0,
        show_default=True,
        help="ms; later is broken.",
    ),
    click.option(
        "--max-refused",
        "refused",
        type=_share,
        default=0.001,
        show_default=True,
        help="Share of what is said or dialled.",
    ),
    click.option(
        "--max-core",
        "core",
        type=_positive,
        default=0.95,
        show_default=True,
        help="Share of a core that one process may take.",
    ),
    click.option(
        "--time-limit",
        "limit_s",
        type=_positive,
        default=300.0,
        show_default=True,
        help="Seconds after which no try begins.",
    ),
)


@click.group(help=_HELP)
def capacity() -> None:
    pass


def _command(scenario: Scenario, axis: Axis) -> click.Command:
    def callback(**flags: Any) -> None:
        _capacity(scenario, axis, **flags)

    kept = [FLAGS[name] for name in OF[scenario] if name not in _RAISED[axis]]
    made = click.command(
        scenario, help=f"How many {UNITS[axis]} of `cfmessenger load {scenario}`."
    )(options(*_SEARCH, *kept, *COMMON)(callback))
    assert isinstance(made, click.Command)
    return made


for _scenario, _axis in AXES.items():
    capacity.add_command(_command(_scenario, _axis))


def _capacity(
    scenario: Scenario,
    axis: Axis,
    *,
    start: float | None,
    top: float | None,
    precision: float,
    p99_ms: float,
    refused: float,
    core: float,
    limit_s: float,
    users: str | None,
    sessions: Any,
    procs: str | None,
    ray: str | None,
    cluster: str | None,
    json_path: Path | None,
    html_path: Path | None,
    allow_remote: bool,
    **flags: Any,
) -> None:
    from cfmessenger.load import capacity_report

    least, most = _START[axis]
    first, last = start or least, top or most
    if first > last:
        raise click.UsageError("--from: more than --to")
    if procs is None and flags["url"] is None and (pid := serving_pid()) is not None:
        procs = str(pid)
    flags["duration_s"] = flags["duration_s"] or DURATION_S

    def plan_at(value: float) -> Plan:
        number = value if axis == "rate" else int(value)
        return planned(scenario, allow_remote, flags | {axis: number})

    wishes = wishes_of(plan_at(first), users, sessions, procs)
    console = Console(stderr=True)

    def tell(step: Step) -> None:
        console.print(capacity_report.line(step), soft_wrap=True, highlight=False)

    try:
        launcher = launcher_of(ray, cluster)
        found = asyncio.run(
            climb(
                plan_at,
                lambda plan: _attempt(plan, wishes, launcher, console),
                Search(first, last, precision),
                Thresholds(p99_us=int(p99_ms * 1000), refused=refused, core=core),
                limit_s=limit_s,
                tell=tell,
            )
        )
    except Failure as failure:
        click.echo(f"cfmessenger: {failure}", err=True)
        sys.exit(EXIT_UNREACHABLE if failure.unreachable else EXIT_INVALID)
    except KeyboardInterrupt:
        sys.exit(130)
    Console().print(capacity_report.summary(found))
    try:
        if json_path is not None:
            results.replace(json_path, encode(found))
        if html_path is not None:
            capacity_report.write(html_path, found)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(exit_code(found))


async def _attempt(
    plan: Plan, wishes: Wishes, launcher: Launcher, console: Console
) -> Result:
    return await run(
        plan, wishes, launcher, tell=console.print, show=lambda progress: None
    )


def exit_code(found: Capacity) -> int:
    """What the search means for whoever called."""
    if found.violations:
        return EXIT_VIOLATION
    if found.held is None:
        limit = found.limit
        return EXIT_INVALID if limit and limit.kind == "generator" else EXIT_MISSED
    return 0
