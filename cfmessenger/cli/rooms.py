"""`cfmessenger rooms`: what is awake, with placement, process and sockets."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import namespace_at
from cfmessenger.cli.tables import show
from cfmessenger.errors import Unavailable
from cfmessenger.namespace import Described, NamespaceClient
from cfmessenger.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings("data_dir")
def rooms(settings: Settings, as_json: bool) -> None:
    """List the rooms that are awake, and the presence registry."""
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
    show(
        ("name", "placement", "process", "epoch", "seq", "sockets", "state"),
        [
            (each.name, each.placement)
            + (each.pid, each.epoch, each.seq, each.sockets, each.state)
            for each in found
        ],
        whole=("placement", "state"),
    )


async def _describe(settings: Settings) -> list[Described]:
    client = NamespaceClient(namespace_at(settings))
    try:
        return await client.describe()
    finally:
        await client.close()
