"""`cfmessenger placement`: where rooms live, and moving them while people talk."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import namespace_of
from cfmessenger.cli.tables import age, percent, show
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.ids import parse_room_id, room_id_of, room_name
from cfmessenger.link.namespace import Described, NamespaceClient
from cfmessenger.placement import MODES, Mode, Placement
from cfmessenger.settings import Settings

_ACTS = (*MODES, "pin", "unpin")


@click.command()
@click.argument("act", required=False, type=click.Choice(_ACTS))
@click.argument("room", required=False)
@click.option("--size", type=click.IntRange(1, 1000), help="Actors of the pool.")
@with_settings("data_dir", "cluster", "pool_size")
def placement(
    settings: Settings, act: str | None, room: str | None, size: int | None
) -> None:
    """Show where rooms live; or have them live elsewhere from now on.

    `auto`: rooms share `--size` processes (CFM_POOL_SIZE unless given), but those that
    are public, pinned, hot or long awake have one of their own. `pooled`: all share.
    `dedicated`: each room is a process of its own. `pin ROOM` gives a room its own
    until `unpin ROOM`, and counts in `auto`. Rooms that live elsewhere under the new
    generation go to sleep and wake there; clients see a pause. `up` follows its
    settings again at its next start; pins stay.
    """
    of_room = act in ("pin", "unpin")
    if size is not None and (act is None or of_room):
        raise click.UsageError("--size needs a mode: `pooled --size 4`.")
    if of_room != (room is not None):
        raise click.UsageError("A room goes with `pin` or `unpin`: `pin general`.")
    try:
        asyncio.run(_act(settings, act, room or "", size or settings.pool_size))
    except (Unavailable, ProtocolError) as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)


async def _act(settings: Settings, act: str | None, room: str, size: int) -> None:
    client = await namespace_of(settings)
    try:
        match act:
            case None:
                _show_placement(await client.placement(), await client.describe())
            case "pin":
                await _pin(client, _name(room))
            case "unpin":
                await _unpin(client, _name(room))
            case _:
                mode: Mode = next(each for each in MODES if each == act)
                click.echo(_line(await client.place(mode, size)))
    finally:
        await client.close()


def _name(room: str) -> str:
    return room_name(parse_room_id(room_id_of(room)).id)


async def _pin(client: NamespaceClient, name: str) -> None:
    own = (await client.placement()).own.get(name)
    if own is not None and own.why == "public":
        raise Unavailable(message=f"{name} has its own actor already: it is public.")
    made = await client.pin(name)
    found = made.own.get(name)
    if found is None or found.why != "pinned":
        raise Unavailable(
            message=f"{name} is not pinned: too many rooms have an actor."
        )
    later = "" if made.mode == "auto" else f"; it counts in auto, this is {made.mode}"
    click.echo(f"{name} is pinned{later} (generation {made.number})")


async def _unpin(client: NamespaceClient, name: str) -> None:
    own = (await client.placement()).own.get(name)
    if own is None or own.why != "pinned":
        raise Unavailable(message=f"{name} is not pinned.")
    made = await client.unpin(name)
    click.echo(f"{name} is not pinned any more (generation {made.number})")


def _line(found: Placement) -> str:
    size_too = f", {found.size} actors" if found.pools else ""
    return f"{found.mode}{size_too} (generation {found.number})"


def _show_placement(found: Placement, awake: list[Described]) -> None:
    click.echo(_line(found))
    if not found.own:
        return
    if found.mode == "auto":
        click.echo("Rooms with an actor of their own:\n")
    else:
        click.echo("These will have an actor of their own again in auto:\n")
    at = {each.name: each for each in awake}
    now = time.time() * 1000
    rows = []
    for name, own in sorted(found.own.items()):
        here = at.get(name)
        row = ("–", "asleep") if here is None else (percent(here.load), here.pid)
        rows.append((name, own.why, age(now - own.since), *row))
    show(("room", "why", "for", "load", "process"), rows, whole=("why", "for"))
