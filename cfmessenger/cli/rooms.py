"""`cfmessenger rooms`: what is awake, where and why there, how busy, with sockets."""

from __future__ import annotations

import asyncio
import sys
import time

import click
import msgspec

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import namespace_of
from cfmessenger.cli.tables import age, percent, show
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Described
from cfmessenger.settings import Settings

_COLUMNS = (
    *("name", "actor", "why", "for", "process", "load"),
    *("epoch", "seq", "sockets", "state"),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings("data_dir", "cluster")
def rooms(settings: Settings, as_json: bool) -> None:
    """List the rooms that are awake, and the presence registry.

    `actor`: the named actor that each lives in. `why`: what gave a room its own, and
    for how long. `load`: the share of its process's time that it takes.
    """
    try:
        found = asyncio.run(_describe(settings))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(each).decode())
        return
    if not found:
        click.echo("No room is awake: they sleep until somebody speaks in them.")
        return
    now = time.time() * 1000
    show(_COLUMNS, [_row(each, now) for each in found], whole=("why", "state"))


def _row(each: Described, now: float) -> tuple[object, ...]:
    since = age(now - each.since) if each.since else "–"
    where = (each.actor or "–", each.why or "–", since, each.pid, percent(each.load))
    return (each.name, *where, each.epoch, each.seq, each.sockets, each.state)


async def _describe(settings: Settings) -> list[Described]:
    client = await namespace_of(settings)
    try:
        return await client.describe()
    finally:
        await client.close()
