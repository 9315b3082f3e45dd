"""`cfmessenger drain`: this node gives up its rooms, and takes no new ones.

For whoever is about to end it (a preStop hook, an upgrade). It ends nothing itself: the
node is to be stopped then, and takes rooms again once it is started anew.
"""

from __future__ import annotations

import asyncio
import sys

import click

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import namespace_at
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.settings import Settings


@click.command()
@with_settings("data_dir")
def drain(settings: Settings) -> None:
    """Move this node's rooms to other nodes, and wait until it is empty.

    Its rooms go to sleep and wake elsewhere at their next event; clients see a pause.
    The node takes no new ones until it is started again.
    """
    try:
        left = asyncio.run(_drain(settings))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if left:
        click.echo(f"cfmessenger: {left} actors are still here", err=True)
        sys.exit(1)
    click.echo("This node is empty and takes no new rooms.")


async def _drain(settings: Settings) -> int:
    client = NamespaceClient(namespace_at(settings))
    try:
        return await client.drain()
    finally:
        await client.close()
