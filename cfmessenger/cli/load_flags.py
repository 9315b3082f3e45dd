"""The flags of `cfmessenger load`, and what they amount to: a plan, wishes, a launcher.

Owns which scenario takes which flags, what is read from the environment or from what
runs here where a flag is silent, and the exit codes. A wrong command line is a
`click.UsageError`.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cfmessenger.cli.flags import settings_or_exit
from cfmessenger.cli.running import (
    namespace_at,
    ray_of,
    server_url,
    shown_key,
    valkey_of,
)
from cfmessenger.errors import Unavailable
from cfmessenger.load.local_workers import LocalLauncher
from cfmessenger.load.plan import Plan, PlanError, Scenario, check_reach, plan
from cfmessenger.load.run import Failure, Launcher, Wishes

EXIT_VIOLATION = 1
EXIT_USAGE = 2
EXIT_MISSED = 3
EXIT_INVALID = 4
EXIT_UNREACHABLE = 5

_NAMESPACE, _NAMESPACE_KEY = "CFMX_NAMESPACE", "CFMX_NAMESPACE_KEY"

_count = click.IntRange(min=0)
_amount = click.FloatRange(min=0)
FILE = click.Path(dir_okay=False, path_type=Path)

FLAGS: dict[str, Callable[[Any], Any]] = {
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
OF: dict[Scenario, tuple[str, ...]] = {
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
    "crowd": ("sockets", "within"),
    "gather": ("sockets", "within", "size"),
}
COMMON: tuple[Callable[[Any], Any], ...] = (
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
    click.option("--json", "json_path", type=FILE, help="Write the result there."),
    click.option("--html", "html_path", type=FILE, help="And as a page for people."),
    click.option(
        "--allow-remote", is_flag=True, help="The target may be another machine."
    ),
)

JUDGED: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--expect",
        multiple=True,
        metavar="TEXT",
        help="Like 'p99<50ms' or 'rate.delivered>1000'; again for more.",
    ),
)


def options(*chosen: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All of these on a command, shown in this order."""

    def decorate(callback: Any) -> Any:
        for option in reversed(chosen):
            callback = option(callback)
        return callback

    return decorate


def planned(scenario: Scenario, allow_remote: bool, flags: dict[str, Any]) -> Plan:
    """The plan of a run of its own. Raises `click.UsageError`."""
    try:
        if flags.get("target") == "actors":
            flags["namespace"] = flags["namespace"] or default_namespace()
        flags["url"] = flags["url"] or server_url()
        made = plan(scenario, secrets.token_hex(3), **flags)
        check_reach(made.url, allow_remote)
        check_reach(made.calm_url or made.url, allow_remote)
        check_reach(made.namespace or made.url, allow_remote)
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    return made


def wishes_of(
    made: Plan, users: str | None, sessions: Any, procs: str | None
) -> Wishes:
    """What workers need not know. Raises `click.UsageError`."""
    try:
        re.compile(procs or "")
        key = shown_key()
        valkey_url = _valkey_url() if made.target == "actors" else ""
    except re.error as error:
        raise click.UsageError(f"--procs: {error}") from None
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    except Unavailable as problem:
        raise click.UsageError(problem.message) from None
    return Wishes(
        users=[user.strip() for user in (users or "").split(",") if user.strip()],
        sessions=sessions.read().split() if sessions else [],
        procs=procs,
        namespace_key=key,
        valkey_url=valkey_url,
    )


def launcher_of(ray: str | None, cluster: str | None) -> Launcher:
    """Where workers are. Raises `Failure` if nothing is there, `click.UsageError`."""
    if ray is not None and cluster is not None:
        raise click.UsageError("--ray and --cluster: one says where workers are")
    if cluster is not None:
        try:
            ray, env = asyncio.run(ray_of(cluster, settings_or_exit().tls))
        except Unavailable as problem:
            raise Failure(f"--cluster: {problem.message}") from None
        os.environ.update(env)  # Ray looks there
    if ray is None:
        return LocalLauncher()
    from cfmessenger.cli.load_ray import RayLauncher

    return RayLauncher(ray)


def default_namespace() -> str:
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
