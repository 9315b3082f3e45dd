"""`cfmessenger load`: make load on a messenger of one's own, and judge what came of it.

Owns the commands and the order of what is printed and written; flags and exit codes are
in `load_flags`. What the scenarios do, how a result is checked and shown is
`cfmessenger.load`'s. Ray is only imported (by `load_ray`) when `--ray` asks for it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cfmessenger.cli.load_capacity import capacity
from cfmessenger.cli.load_flags import (
    COMMON,
    EXIT_INVALID,
    EXIT_MISSED,
    EXIT_UNREACHABLE,
    EXIT_VIOLATION,
    FILE,
    FLAGS,
    JUDGED,
    OF,
    launcher_of,
    options,
    planned,
    wishes_of,
)
from cfmessenger.load.plan import (
    SCENARIOS,
    SUMMARIES,
    Plan,
    Scenario,
)
from cfmessenger.load.result import Progress, Result, write
from cfmessenger.load.run import Failure, Launcher, Wishes, run

_HELP = """Make load on a messenger of your own, and check what it did.

Every scenario watches every socket: an acknowledged message that a socket missed, saw
twice or out of order fails the run, however fast it was. Messages are due by the clock
and timed from when they were due. The target must be on this machine unless you say
--allow-remote.

The server limits what people may do; for a load test lift it there:
CFM_CHAT_RATE=0 CFM_NUDGE_RATE=0 CFM_LOGIN_RATE=0 CFM_NEW_ROOM_RATE=0
CFM_OPEN_ROOMS=1 (rooms other than the public ones), and beyond loopback
CFM_MAX_SOCKETS_PER_SESSION=0 and CFM_MAX_SOCKETS_PER_ADDRESS=0.

\b
Exit codes:
  0  all is well
  1  the oracle found messages lost, doubled, reordered, or a gap
  2  the command line is wrong
  3  an expectation (--expect) was not met
  4  the run is not valid: the generator itself lagged, or broke
  5  the target cannot be reached, or refuses
The first of 5, 1, 4, 3 that applies."""


@click.group(help=_HELP)
def load() -> None:
    pass


def _command(scenario: Scenario) -> click.Command:
    def callback(**flags: Any) -> None:
        _load(scenario, **flags)

    of_scenario = [FLAGS[name] for name in OF[scenario]]
    decorated = options(*of_scenario, *COMMON, *JUDGED)(callback)
    text = SUMMARIES[scenario]
    made = click.command(scenario, help=f"{text[0].upper()}{text[1:]}.")(decorated)
    assert isinstance(made, click.Command)
    return made


for _scenario in SCENARIOS:
    load.add_command(_command(_scenario))
load.add_command(capacity)


@load.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", type=click.Path(exists=True, dir_okay=False))
@click.option("--tolerance", default="10%", show_default=True, help="What is noise.")
@click.option("--html", "html_path", type=FILE, help="Both in one page.")
def compare(before: str, after: str, tolerance: str, html_path: Path | None) -> None:
    """Compare two results; exits 3 when the second is worse."""
    from cfmessenger.load import compare as comparing
    from cfmessenger.load import report
    from cfmessenger.load.result import read

    try:
        results = read(before), read(after)
        found = comparing.compare(*results, comparing.parse_tolerance(tolerance))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    Console().print(comparing.table(found))
    if html_path is not None:
        report.write(html_path, results[1], found)
    sys.exit(comparing.exit_code(found))


def _load(
    scenario: Scenario,
    *,
    users: str | None,
    sessions: Any,
    procs: str | None,
    expect: tuple[str, ...],
    ray: str | None,
    cluster: str | None,
    json_path: Path | None,
    html_path: Path | None,
    allow_remote: bool,
    **flags: Any,
) -> None:
    from cfmessenger.load import expect as expecting

    try:
        conditions = [expecting.parse(text) for text in expect]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    made = planned(scenario, allow_remote, flags)
    wishes = wishes_of(made, users, sessions, procs)
    console = Console(stderr=True)
    try:
        launcher = launcher_of(ray, cluster)
        result = asyncio.run(_watched(made, wishes, launcher, console))
    except Failure as failure:
        click.echo(f"cfmessenger: {failure}", err=True)
        sys.exit(EXIT_UNREACHABLE if failure.unreachable else EXIT_INVALID)
    except KeyboardInterrupt:
        sys.exit(130)
    result.expectations = expecting.judge(conditions, result)
    _publish(result, json_path, html_path)
    sys.exit(exit_code(result))


async def _watched(
    made: Plan, wishes: Wishes, launcher: Launcher, console: Console
) -> Result:
    from cfmessenger.load.display import Board, Show

    board = Board(
        scenario=made.scenario,
        url=made.url if made.target == "gateway" else made.namespace,
        duration_s=made.duration_s,
        warmup_s=made.warmup_s,
        workers=made.workers,
    )

    def show(progress: Progress) -> None:
        board.add(progress)
        shown.update()

    with Show(board, console) as shown:
        return await run(made, wishes, launcher, tell=console.print, show=show)


def exit_code(result: Result) -> int:
    """What the result means for whoever called."""
    if result.oracle.violations:
        return EXIT_VIOLATION
    if not result.health.valid:
        return EXIT_INVALID
    if not all(each.holds for each in result.expectations):
        return EXIT_MISSED
    return 0


def _publish(result: Result, json_path: Path | None, html_path: Path | None) -> None:
    from cfmessenger.load import display

    Console().print(display.summary(result))
    if limited := result.counts.get("error.RATE_LIMITED"):
        click.echo(
            f"cfmessenger: {limited} messages were over the server's rate: set "
            "CFM_CHAT_RATE=0 and CFM_NUDGE_RATE=0 there",
            err=True,
        )
    try:
        if json_path is not None:
            write(json_path, result)
        if html_path is not None:
            from cfmessenger.load import report

            report.write(html_path, result)
    except OSError as error:
        raise click.ClickException(str(error)) from None
