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

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots import figures as day
from cfmessenger.bots.rotation import SLOT_MS
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import valkey_of
from cfmessenger.cli.tables import show
from cfmessenger.environment import SettingsError
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey, pairs


class BotToday(msgspec.Struct, frozen=True, rename="camel"):
    """One bot: a row of the table, or an object of `--json`.

    `turns_at`, in ms: when it leaves, if it is in rotation, else when its turn comes;
    None: no bot is on. `quota` is its share of the day's answers, in percent.
    """

    id: str
    display_name: str
    in_rotation: bool
    turns_at: int | None
    rotations: int
    mentions: int
    replies: int
    refusals: dict[str, int]
    tokens: int
    mean_latency_ms: int | None
    quota: float


class Today(msgspec.Struct, frozen=True):
    """What all of them did today, and whether they are switched on."""

    enabled: bool
    spent: int
    bots: list[BotToday]


@click.command()
@click.argument("switch", required=False, type=click.Choice(["on", "off"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a persona.")
@with_settings(
    "data_dir", "cluster", "valkey_url", "users", "bots_active", "bot_quota_day"
)
def bots(
    settings: Settings, switch: Literal["on", "off"] | None, as_json: bool
) -> None:
    """Show which bots are on, until when, and what they did today; or switch them.

    `off` takes a second: who is asked meanwhile stays silent, and nobody is shown as
    online. It lasts until `on`, across restarts.
    """
    try:
        if switch is not None:
            asyncio.run(_switch(valkey_of(settings), switch))
            click.echo(f"bots are {switch}")
            return
        directory = Directory.load(settings.users)
        today = asyncio.run(_today(valkey_of(settings), settings, directory))
    except SettingsError as error:
        click.echo(f"cfmessenger: {error}", err=True)
        sys.exit(3)
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if as_json:
        for bot in today.bots:
            click.echo(msgspec.json.encode(bot).decode())
        return
    _print(settings, today)


async def _switch(url: str, switch: str) -> None:
    client = Valkey(url)
    try:
        await client.ask("SET", keys.BOT_ENABLED, "1" if switch == "on" else "0")
    finally:
        client.close()


async def _today(url: str, settings: Settings, directory: Directory) -> Today:
    date = time.strftime("%Y-%m-%d", time.gmtime())
    client = Valkey(url)
    try:
        active, line, enabled, stored, spent = await client.ask_all(
            ("SMEMBERS", keys.BOTS_ACTIVE),
            ("GET", keys.BOTS_LINE),
            ("GET", keys.BOT_ENABLED),
            ("HGETALL", keys.bots_metrics(date)),
            ("GET", keys.bots_quota(date)),
        )
    finally:
        client.close()
    on = enabled != b"0" and settings.bots_active > 0
    turns = _turns((line or b"").decode().split(), len(active)) if on else {}
    found = day.read(pairs(stored))
    ids = {bot.decode() for bot in active} if on else set()
    told = [
        _bot_today(bot, bot.id in ids, turns.get(bot.id), found, settings)
        for bot in directory.bots
    ]
    return Today(on, int(spent or 0), told)


def _turns(line: list[str], count: int) -> dict[str, int]:
    """When each leaves or comes, if every hour turns: `line` as the director has it,
    those who are on at its end."""
    hour = time.time_ns() // 1_000_000 // SLOT_MS
    off = len(line) - count
    return {
        bot: (hour + 1 + (n // max(count, 1) if n < off else 0)) * SLOT_MS
        for n, bot in enumerate(line)
    }


def _bot_today(
    bot: Profile,
    active: bool,
    turns_at: int | None,
    found: day.Figures,
    settings: Settings,
) -> BotToday:
    figures = found.get(bot.id, {})
    replies = figures.get("replies", 0)
    return BotToday(
        id=bot.id,
        display_name=bot.display_name,
        in_rotation=active,
        turns_at=turns_at,
        rotations=figures.get("rotations", 0),
        mentions=figures.get("mentions", 0),
        replies=replies,
        refusals=day.refusals(figures),
        tokens=figures.get("tokens", 0),
        mean_latency_ms=day.mean_latency_ms(figures),
        quota=round(100 * replies / max(settings.bot_quota_day, 1), 2),
    )


def _print(settings: Settings, today: Today) -> None:
    columns = (
        "bot",
        "name",
        "duty",
        "asked",
        "replies",
        "tokens",
        "latency",
        "refused",
    )
    show(columns, [_cells(bot) for bot in today.bots], whole=("bot", "duty"))
    state = "on" if today.enabled else "off"
    limit = settings.bot_quota_day
    click.echo(f"bots are {state}; {today.spent} of {limit} answers used today")


def _cells(bot: BotToday) -> tuple[str, ...]:
    latency = bot.mean_latency_ms
    return (
        bot.id,
        bot.display_name,
        _duty(bot),
        str(bot.mentions),
        str(bot.replies),
        str(bot.tokens),
        "-" if latency is None else f"{latency / 1000:.1f} s",
        ", ".join(f"{n} {why}" for why, n in sorted(bot.refusals.items())),
    )


def _duty(bot: BotToday) -> str:
    """In the time of whoever looks."""
    if bot.turns_at is None:
        return "on" if bot.in_rotation else "off"
    at = time.strftime("%H:%M", time.localtime(bot.turns_at / 1000))
    return f"until {at}" if bot.in_rotation else f"from {at}"
