"""`cfmessenger bots`: who is in rotation, what they did today, and their switch.

Reads and writes Valkey alone, so it works while the messenger runs and needs no
gateway: the switch is obeyed by whoever hosts the director, before each answer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cfmessenger import keys
from cfmessenger.bots import figures as day
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings, SettingsError
from cfmessenger.storage.valkey_kv import ask, connect, reachable
from cfmessenger.users import Directory


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """One persona today. `quota` is its share of the day's answers, in percent."""

    id: str
    display_name: str
    in_rotation: bool
    rotations: int
    mentions: int
    replies: int
    refusals: dict[str, int]
    tokens: int
    mean_latency_ms: int | None
    quota: float


class Board(msgspec.Struct, frozen=True):
    """All of it."""

    enabled: bool
    spent: int
    rows: list[Row]


@click.command()
@click.argument("switch", required=False, type=click.Choice(["on", "off"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a persona.")
@with_settings
def bots(
    settings: Settings, switch: Literal["on", "off"] | None, as_json: bool
) -> None:
    """Show what the bots did today; or switch them all off, or on again.

    `off` takes a second: who is asked meanwhile stays silent, and nobody is shown as
    online. It lasts until `on`, across restarts.
    """
    try:
        if switch is not None:
            asyncio.run(_switch(_url(settings), switch))
            click.echo(f"bots are {switch}")
            return
        directory = Directory.load(settings.users)
        board = asyncio.run(_board(_url(settings), settings, directory))
    except SettingsError as error:
        click.echo(f"cfmessenger: {error}", err=True)
        sys.exit(3)
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if as_json:
        for row in board.rows:
            click.echo(msgspec.json.encode(row).decode())
        return
    _print(settings, board)


def _url(settings: Settings) -> str:
    """The Valkey of these settings, or the embedded one of the `up` that runs."""
    if settings.valkey_url is not None:
        return settings.valkey_url
    try:
        file = RuntimeFolder(settings.data_dir).path / "valkey.url"
        return file.read_text().strip()
    except OSError:
        raise Unavailable(message="No messenger runs on this data folder.") from None


async def _switch(url: str, switch: str) -> None:
    client = connect(url)
    try:
        await ask(client, "SET", keys.BOT_ENABLED, "1" if switch == "on" else "0")
    finally:
        await client.aclose(close_connection_pool=True)


async def _board(url: str, settings: Settings, directory: Directory) -> Board:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    client = connect(url)
    try:
        with reachable():
            async with client.pipeline(transaction=False) as pipe:
                pipe.smembers(keys.BOTS_ACTIVE)
                pipe.get(keys.BOT_ENABLED)
                pipe.hgetall(keys.bots_metrics(today))
                pipe.get(keys.bots_quota(today))
                active, enabled, stored, spent = await pipe.execute()
    finally:
        await client.aclose(close_connection_pool=True)
    on = enabled != b"0" and settings.bots_active > 0
    found = day.read(stored)
    rows = [
        _row(
            bot.id, bot.display_name, on and bot.id.encode() in active, found, settings
        )
        for bot in directory.bots
    ]
    return Board(on, int(spent or 0), rows)


def _row(
    bot_id: str, name: str, active: bool, found: day.Figures, settings: Settings
) -> Row:
    figures = found.get(bot_id, {})
    replies = figures.get("replies", 0)
    return Row(
        id=bot_id,
        display_name=name,
        in_rotation=active,
        rotations=figures.get("rotations", 0),
        mentions=figures.get("mentions", 0),
        replies=replies,
        refusals=day.refusals(figures),
        tokens=figures.get("tokens", 0),
        mean_latency_ms=day.mean_latency_ms(figures),
        quota=round(100 * replies / max(settings.bot_quota_day, 1), 2),
    )


def _print(settings: Settings, board: Board) -> None:
    table = Table()
    for column in ("bot", "name", "in rotation"):
        table.add_column(column)
    for column in ("mentions", "replies", "refusals", "tokens", "latency", "quota"):
        table.add_column(column, justify="right")
    for row in board.rows:
        reasons = ", ".join(f"{n} {why}" for why, n in sorted(row.refusals.items()))
        latency = row.mean_latency_ms
        table.add_row(
            row.id,
            row.display_name,
            f"{'yes' if row.in_rotation else 'no'} ({row.rotations} today)",
            str(row.mentions),
            str(row.replies),
            reasons or "0",
            str(row.tokens),
            "" if latency is None else f"{latency / 1000:.1f} s",
            f"{row.quota:g} %",
        )
    console = Console()
    console.print(table)
    state = "on" if board.enabled else "off"
    limit = settings.bot_quota_day
    console.print(f"bots are {state}; {board.spent} of {limit} answers used today")
