"""Who sits on the sockets: users of the target, each logged in once for the run.

Owns logging in, waiting for its rate, and keeping the sessions from expiring while
sockets are idle. Every socket of a user shares the user's session, so that a thousand
sockets need a handful of logins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from cfmessenger.client.errors import ApiError, ClientError, Unreachable
from cfmessenger.client.session import Client, Session

from .desk import Person

LOGIN_TRIES = 10
KEEP_EVERY_S = 120.0


async def log_in(
    client: Client, users: list[str], wanted: int, tell: Callable[[str], None]
) -> list[Session]:
    """Sessions of `users`, or of the directory's people if none are named.

    At most `wanted`. Raises `ApiError` or `Unreachable`. A login that is over the rate
    waits for it; `tell` says so.
    """
    names = users or [u.id for u in await client.users() if not u.is_ai_bot]
    sessions = []
    for name in names[:wanted]:
        sessions.append(await _one(client, name, tell))  # noqa: PERF401 - one by one
    if not sessions:
        raise Unreachable(f"{client.url} knows no people")
    return sessions


async def _one(client: Client, user_id: str, tell: Callable[[str], None]) -> Session:
    for _ in range(LOGIN_TRIES):
        try:
            return await client.login(user_id)
        except ApiError as error:
            if error.code != "RATE_LIMITED":
                raise
            wait_s = error.retry_after_s or 1.0
            tell(f"logins are limited (CFM_LOGIN_RATE): waiting {wait_s:g} s")
            await asyncio.sleep(wait_s)
    raise Unreachable("logins are limited: set CFM_LOGIN_RATE=0 there")


async def presented(client: Client, tokens: list[str]) -> list[Session]:
    """Sessions that somebody else began, where a login needs a real Turnstile.

    Raises `SessionEnded` for one that is not valid.
    """
    sessions = []
    for token in tokens:
        session = Session(client, None, token, 0)  # type: ignore[arg-type]
        session.user = await session.me()
        sessions.append(session)
    return sessions


def people(sessions: list[Session]) -> list[Person]:
    """As workers are told of them."""
    return [Person(each.user.id, each.session_id) for each in sessions]


async def keep(sessions: list[Session]) -> None:
    """Until cancelled: use every session now and then, for silence ends one."""
    while True:
        await asyncio.sleep(KEEP_EVERY_S)
        for session in sessions:
            with contextlib.suppress(ClientError):
                await session.me()


def strangers(count: int) -> list[Person]:
    """People that no directory knows, for a target that does not ask for one."""
    return [Person(f"load-{n}") for n in range(count)]
