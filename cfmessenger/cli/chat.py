"""`cfmessenger chat`: a person at a terminal (or a script at a pipe) in one room.

Owns the command line and the exit codes: 0 left, 1 something failed, 2 wrong usage.
What happens in between is visit.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import click
from prompt_toolkit.utils import is_dumb_terminal

from cfmessenger.cli.running import server_url
from cfmessenger.cli.screen import Screen, plain
from cfmessenger.cli.visit import Visit
from cfmessenger.client import Client, ClientError
from cfmessenger.client.session import TEST_TURNSTILE_TOKEN
from cfmessenger.ids import direct_room


@click.command()
@click.option("--user", required=True, help="Who to sign in as, for example user_1.")
@click.option("--room", help="The room to enter.  [default: general]")
@click.option("--to", help="The user to talk to directly, instead of --room.")
@click.option("--bot", is_flag=True, help="Talk to a bot that is on duty, likewise.")
@click.option(
    "--url", help="The server.  [default: what runs here, or CFM_HOST, CFM_PORT]"
)
@click.option(
    "--token",
    default=TEST_TURNSTILE_TOKEN,
    help="A Turnstile token.  [default: the test widget's]",
)
@click.option("--stay", is_flag=True, help="Keep listening when the input has ended.")
def chat(
    user: str,
    room: str | None,
    to: str | None,
    bot: bool,
    url: str | None,
    token: str,
    stay: bool,
) -> None:
    """Talk in a room or to a person.

    Every line is said; lines that begin with / are commands (/help lists them). Works
    in pipes too: `echo hello | cfmessenger chat --user user_1` says it, waits until it
    is stored, and leaves.
    """
    if (room is not None) + (to is not None) + bot > 1:
        raise click.UsageError("--room, --to and --bot exclude each other.")
    if to == user:
        raise click.UsageError("--to must name somebody else.")
    url = url or server_url()
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(
            "must begin with http:// or https://.", param_hint="url"
        )
    try:
        failed = asyncio.run(_visit(url, user, token, room, to, bot=bot, stay=stay))
    except ClientError as error:
        click.echo(f"cfmessenger chat: {plain(str(error))}", err=True)
        failed = True
    sys.exit(1 if failed else 0)


async def _visit(
    url: str, user: str, token: str, room: str | None, to: str | None, **how: bool
) -> bool:
    # What others say may not be in this terminal's encoding.
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    fd = sys.stdin.fileno()
    terminal = os.isatty(fd) and sys.stdout.isatty() and not is_dumb_terminal()
    screen = Screen(user, interactive=terminal)
    async with Client(url) as client, await client.login(user, token) as session:
        if how["bot"]:
            to = await _on_duty(client)
        room_id = direct_room(user, to) if to is not None else room or "general"
        async with contextlib.aclosing(session.room(room_id)) as connection:
            visit = Visit(session, connection, screen)
            return await visit.run(fd, stay=how["stay"])


async def _on_duty(client: Client) -> str:
    # Of the bots the server lists those alone.
    bots = [user.id for user in await client.users() if user.is_ai_bot]
    if not bots:
        raise ClientError("NO_BOT", "no bot is on duty")
    return bots[0]
