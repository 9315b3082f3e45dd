"""What a start needs of the rest of the world, asked before anything is begun.

One sentence says what does not answer as it must, where it was looked for (never with a
password) and why; who starts us then need not read it out of three processes' logs.
Must not repair or begin anything.
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from valkey.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 (the client's own)
    TimeoutError,  # noqa: A004
    ValkeyError,
)

from cfmessenger.cli.runtime import told
from cfmessenger.data.store import Store
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage import valkey_kv
from cfmessenger.users import Directory

PATIENCE_S = 5.0
"""How long somebody else's server may take to begin listening, when all start at
once."""

PAUSE_S = 0.25
CONNECT_S = 3.0


class Absent(Exception):
    """Something does not answer as it must; the text is the whole sentence."""


async def check(settings: Settings) -> None:
    """Raises `Absent`, or `SettingsError` for a file of theirs that cannot be used."""
    Directory.load(settings.users)
    if settings.ray_address is None:
        _loopback()
    if settings.valkey_url is not None:
        await _valkey("CFM_VALKEY_URL", settings.valkey_url, writes=True)
    if settings.valkey_replica_url is not None:
        await _valkey("CFM_VALKEY_REPLICA_URL", settings.valkey_replica_url)
    if settings.ray_address is not None:
        await _listens("CFM_RAY_ADDRESS", settings.ray_address)
    if settings.database_url is not None:
        await _database(settings)


def place(url: str) -> str:
    """Where a URL points to, without user, password and query."""
    parts = urlsplit(url)
    if parts.scheme in ("unix", "sqlite"):
        return f"{parts.scheme}://{parts.path}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host or ''}{port}"


def _loopback() -> None:
    """Ray's processes find each other there, whatever address we serve on."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname(), CONNECT_S).close()
    except OSError as error:
        raise Absent(
            f"127.0.0.1 cannot be used: {told(error)}; bring up the loopback "
            "interface (ip link set lo up)"
        ) from None


async def _valkey(name: str, url: str, *, writes: bool = False) -> None:
    where = f"{name}: {place(url)}"
    client = valkey_kv.connect(url, timeout_s=CONNECT_S, connections=1)
    end = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while True:
            try:
                await valkey_kv.require_version(client)
                role = (await client.info("replication")).get("role")
                break
            except valkey_kv.TooOld as error:
                raise Absent(f"{where}: {error}") from None
            except (Unavailable, ValkeyError) as error:
                cause = error.__cause__ or error
                heals = isinstance(cause, (ConnectionError, TimeoutError, OSError))
                final = isinstance(cause, AuthenticationError)
                late = asyncio.get_running_loop().time() > end
                if final or late or not heals:
                    raise Absent(f"{where} {_refusal(cause)}") from None
            await asyncio.sleep(PAUSE_S)
    finally:
        await client.aclose(close_connection_pool=True)
    if writes and role not in ("master", None):
        raise Absent(f"{where} is a replica: name its primary")


def _refusal(cause: BaseException) -> str:
    why = _first_line(cause)
    if isinstance(cause, AuthenticationError):
        return f"does not let us in: {why}"
    if isinstance(cause, BusyLoadingError):
        return f"is not ready: {why}"
    if isinstance(cause, (ConnectionError, TimeoutError, OSError)):
        tls = " (valkeys:// is for TLS, valkey:// for none)"
        hint = tls if "closed" in why or "SSL" in why else ""
        return f"does not answer: {why}{hint}"
    return f"does not answer as a Valkey does: {why}"


async def _listens(name: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
    except (OSError, ValueError) as error:
        why = _first_line(error) or f"no answer within {CONNECT_S:g} s"
        raise Absent(f"{name}: {address} does not answer: {why}") from None


async def _database(settings: Settings) -> None:
    store = Store.of(settings)
    try:
        await store.ping()
    except Unavailable as error:
        where = place(settings.database_url or "")
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        why = _first_line(cause) or "no answer in time"
        raise Absent(f"CFM_DATABASE_URL: {where} does not answer: {why}") from None
    finally:
        await store.aclose()


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")
