"""`cfmessenger rooms`: what is awake, with placement, process and sockets."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.namespace import Described, NamespaceClient
from cfmessenger.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings
def rooms(settings: Settings, as_json: bool) -> None:
    """List the rooms that are awake, and the presence registry."""
    try:
        found = asyncio.run(_describe(RuntimeFolder(settings.data_dir).path))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(each).decode())
        return
    table = Table("name", "placement", "process", "epoch", "seq", "sockets", "state")
    for each in found:
        numbers = (each.pid, each.epoch, each.seq, each.sockets)
        table.add_row(each.name, each.placement, *map(str, numbers), each.state)
    Console().print(table)


async def _describe(runtime: Path) -> list[Described]:
    client = NamespaceClient(f"unix:{runtime / 'namespace.sock'}")
    try:
        return await client.describe()
    finally:
        await client.close()
