"""`cfmessenger placement`: where rooms live, and moving them while people talk."""

from __future__ import annotations

import asyncio
import sys

import click

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import namespace_at
from cfmessenger.errors import Unavailable
from cfmessenger.namespace import NamespaceClient
from cfmessenger.placement import Mode, Placement
from cfmessenger.settings import Settings


@click.command()
@click.argument("mode", required=False, type=click.Choice(["dedicated", "pooled"]))
@click.option("--size", type=click.IntRange(1, 1000), help="Actors of the pool.")
@with_settings("data_dir", "pool_size")
def placement(settings: Settings, mode: Mode | None, size: int | None) -> None:
    """Show where rooms live; or have them live elsewhere from now on.

    `dedicated`: each room is a process of its own. `pooled`: rooms share `--size`
    processes (CFM_POOL_SIZE unless given). Rooms that live elsewhere under the new
    generation go to sleep and wake there; clients see a pause. `up` follows its
    settings again at its next start.
    """
    if mode is None and size is not None:
        raise click.UsageError("--size needs a mode: `pooled --size 4`.")
    try:
        found = asyncio.run(_ask(settings, mode, size or settings.pool_size))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    size_too = f", {found.size} actors" if found.mode == "pooled" else ""
    click.echo(f"{found.mode}{size_too} (generation {found.number})")


async def _ask(settings: Settings, mode: Mode | None, size: int) -> Placement:
    client = NamespaceClient(namespace_at(settings))
    try:
        if mode is None:
            return await client.placement()
        return await client.place(mode, size)
    finally:
        await client.close()
