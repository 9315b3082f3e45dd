"""`cfmessenger load`: make load on a messenger of one's own, and judge what came of it.

Owns the flags, the exit codes and the order of what is printed and written. What the
scenarios do, how a result is checked and shown is `cfmessenger.load`'s. Ray is only
imported (by `load_ray`) when `--ray` asks for it.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cfmessenger.cli.flags import settings_or_exit
from cfmessenger.cli.running import namespace_at, ray_of, server_url, valkey_of
from cfmessenger.errors import Unavailable
from cfmessenger.load.local_workers import LocalLauncher
from cfmessenger.load.plan import (
    SCENARIOS,
    SUMMARIES,
    Plan,
    PlanError,
    Scenario,
    check_reach,
    plan,
)
from cfmessenger.load.result import Progress, Result, write
from cfmessenger.load.run import Failure, Launcher, Wishes, run

EXIT_VIOLATION = 1
EXIT_USAGE = 2
EXIT_MISSED = 3
EXIT_INVALID = 4
EXIT_UNREACHABLE = 5

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

_NAMESPACE, _NAMESPACE_KEY = "CFMX_NAMESPACE", "CFMX_NAMESPACE_KEY"

_count = click.IntRange(min=0)
_amount = click.FloatRange(min=0)
_FILE = click.Path(dir_okay=False, path_type=Path)

_FLAGS: dict[str, Callable[[Any], Any]] = {
    "sockets": click.option("--sockets", type=_count, help="How many, in all."),
    "rooms": click.option("--rooms", type=_count, help="How many, in all."),
    "rate": click.option("--rate", type=_amount, help="Messages a second, in all."),
    "changes": click.option(
        "--rate", type=_amount, help="Status changes a second, in all."
    ),
    "arrivals": click.option(
        "--arrivals",
        type=click.Choice(["constant", "poisson"]),
        help="Evenly spaced, or as people come.",
    ),
    "messages": click.option(
        "--messages", type=_count, help="Stop after so many (0: after --duration)."
    ),
    "window": click.option(
        "--window",
        type=_count,
        help="Instead of a rate: this many in flight, so as fast as the server can.",
    ),
    "size": click.option("--size", type=_count, help="Characters of a message."),
    "tick": click.option(
        "--tick", "tick_ms", type=_amount, help="Send only every so many ms."
    ),
    "zipf": click.option("--zipf", type=_amount, help="Exponent of the room sizes."),
    "churn": click.option(
        "--churn-rate", type=_amount, help="Connections dropped a second, in all."
    ),
    "slow": click.option("--slow", type=_count, help="How many do not read."),
    "hot": click.option(
        "--hot-sockets", type=_count, help="Sockets in the hot room. Default: 100"
    ),
    "hot_rate": click.option(
        "--hot-rate", type=_amount, help="Its messages a second. Default: 100"
    ),
    "calm": click.option(
        "--calm-url", help="Another gateway, where the calm rooms are entered."
    ),
    "within": click.option(
        "--within", "within_s", type=_amount, help="Seconds in which all begin."
    ),
    "sleep": click.option(
        "--sleep",
        "sleep_s",
        type=_amount,
        help="Seconds of silence; longer than CFM_HIBERNATE_AFTER there.",
    ),
}
_SPOKEN = ("sockets", "rate", "arrivals", "messages", "size", "tick")
_OF: dict[Scenario, tuple[str, ...]] = {
    "fanout": (*_SPOKEN, "window"),
    "rooms": (*_SPOKEN, "rooms"),
    "mixed": ("sockets", "rooms", "rate", "arrivals", "size", "tick", "zipf"),
    "idle": ("sockets", "rooms"),
    "wake": ("rooms", "size", "sleep"),
    "churn": ("sockets", "rooms", "rate", "arrivals", "size", "tick", "churn"),
    "slow-consumer": ("sockets", "rate", "arrivals", "size", "tick", "slow"),
    "presence-storm": ("sockets", "changes", "arrivals", "tick"),
    "hot": ("rooms", "hot", "hot_rate", "calm", "arrivals", "size", "tick"),
    "open": ("rooms", "within", "size"),
}
_COMMON: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--url", help="The server.  [default: what runs here, or CFM_HOST, CFM_PORT]"
    ),
    click.option(
        "--target",
        type=click.Choice(["gateway", "actors"]),
        help="Sockets to a gateway, or the actors directly, without one.",
    ),
    click.option(
        "--namespace",
        help=f"For --target actors: unix:PATH or tcp://HOST:PORT; its key in "
        f"{_NAMESPACE_KEY}, storage in CFM_VALKEY_URL. Default: {_NAMESPACE}, or what "
        "runs on the data folder (CFM_DATA_DIR).",
    ),
    click.option("--duration", "duration_s", type=_amount, help="Seconds. Default: 10"),
    click.option(
        "--warmup", "warmup_s", type=_amount, help="Seconds before that do not count."
    ),
    click.option("--workers", type=_count, help="Processes that make the load."),
    click.option("--ray", metavar="ADDRESS", help="Workers as tasks of this Ray."),
    click.option(
        "--cluster",
        metavar="URL",
        help="Workers on the nodes of the cluster with this Valkey, one after another; "
        "from one of its machines.",
    ),
    click.option("--room", help="Name of the room, or of rooms: NAME-0, NAME-1, ..."),
    click.option("--users", help="Whose sockets: ids, comma-separated."),
    click.option(
        "--sessions",
        type=click.File(),
        help="Session ids, one a line, where nobody can just log in.",
    ),
    click.option("--seed", type=int, help="Of all that is left to chance."),
    click.option("--max-lag", "max_lag_ms", type=_amount, help="ms; later is invalid."),
    click.option(
        "--procs",
        metavar="REGEX",
        help="The server's processes on this machine, whose cost is to be measured: "
        "what their command lines match, or the number of the one that began all.",
    ),
    click.option(
        "--expect",
        multiple=True,
        metavar="TEXT",
        help="Like 'p99<50ms' or 'rate.delivered>1000'; again for more.",
    ),
    click.option("--json", "json_path", type=_FILE, help="Write the result there."),
    click.option("--html", "html_path", type=_FILE, help="And as a page for people."),
    click.option(
        "--allow-remote", is_flag=True, help="The target may be another machine."
    ),
)


@click.group(help=_HELP)
def load() -> None:
    pass


def _command(scenario: Scenario) -> click.Command:
    def callback(**flags: Any) -> None:
        _load(scenario, **flags)

    decorated: Any = callback
    for option in reversed((*(_FLAGS[name] for name in _OF[scenario]), *_COMMON)):
        decorated = option(decorated)
    text = SUMMARIES[scenario]
    made = click.command(scenario, help=f"{text[0].upper()}{text[1:]}.")(decorated)
    assert isinstance(made, click.Command)
    return made


for _scenario in SCENARIOS:
    load.add_command(_command(_scenario))


@load.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", type=click.Path(exists=True, dir_okay=False))
@click.option("--tolerance", default="10%", show_default=True, help="What is noise.")
@click.option("--html", "html_path", type=_FILE, help="Both in one page.")
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
        if flags["target"] == "actors":
            flags["namespace"] = flags["namespace"] or _default_namespace()
        flags["url"] = flags["url"] or server_url()
        made = plan(scenario, secrets.token_hex(3), **flags)
        check_reach(made.url, allow_remote)
        check_reach(made.calm_url or made.url, allow_remote)
        check_reach(made.namespace or made.url, allow_remote)
        valkey_url = _valkey_url() if made.target == "actors" else ""
        re.compile(procs or "")
        if ray is not None and cluster is not None:
            raise PlanError("--ray and --cluster: one of them says where workers are")
    except (PlanError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except re.error as error:
        raise click.UsageError(f"--procs: {error}") from None
    wishes = Wishes(
        users=[user.strip() for user in (users or "").split(",") if user.strip()],
        sessions=sessions.read().split() if sessions else [],
        procs=procs,
        namespace_key=os.environ.get(_NAMESPACE_KEY, ""),
        valkey_url=valkey_url,
    )
    console = Console(stderr=True)
    try:
        launcher = _launcher(ray, cluster)
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


def _launcher(ray: str | None, cluster: str | None) -> Launcher:
    """Raises `Failure`."""
    if cluster is not None:
        try:
            ray, env = asyncio.run(ray_of(cluster))
        except Unavailable as problem:
            raise Failure(f"--cluster: {problem.message}") from None
        os.environ.update(env)  # Ray looks there
    if ray is None:
        return LocalLauncher()
    from cfmessenger.cli.load_ray import RayLauncher

    return RayLauncher(ray)


def _default_namespace() -> str:
    """That of the environment, or of what runs on the data folder."""
    if named := os.environ.get(_NAMESPACE):
        return named
    try:
        return namespace_at(settings_or_exit())
    except Unavailable as problem:
        raise PlanError(f"--target actors: {problem.message}") from None


def _valkey_url() -> str:
    """Where whoever plays a gateway must show signs of life."""
    try:
        return valkey_of(settings_or_exit())
    except Unavailable as problem:
        raise PlanError(f"--target actors: {problem.message}") from None
