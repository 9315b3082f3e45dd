"""What a start needs of the rest of the world, asked before anything is begun.

One sentence says what does not answer as it must, where it was looked for (never with a
password) and why; who starts us then need not read it out of three processes' logs.
Must not repair or begin anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from libvalkey import ProtocolError

from cfmessenger.accounts.users import Directory
from cfmessenger.addresses import cluster_seeds, each_of, is_valkey_cluster, url_at
from cfmessenger.cli.promise import FSYNC, MIN_REPLICAS, Promise, promise
from cfmessenger.cli.runtime import told
from cfmessenger.data.store import Store
from cfmessenger.environment import variable
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.reserve import evicts
from cfmessenger.storage.valkey import (
    Refused,
    ReplyError,
    TooOld,
    UnknownOutcome,
    Valkey,
    checked,
    pairs,
)
from cfmessenger.tls import Trust, why

log = logging.getLogger("cfmessenger.up")

PATIENCE_S = 5.0
"""How long somebody else's server may take to begin listening, when all start at
once."""

PAUSE_S = 0.25
CONNECT_S = 3.0
ADVICE = "start it there, or correct the setting"


class Absent(Exception):
    """Something does not answer as it must; the text is the whole sentence."""


async def check(settings: Settings, whole: bool = True) -> None:
    """Raises `Absent`, or `SettingsError` for a file of theirs that cannot be used.
    `whole`: it is to be a messenger by itself."""
    Directory.load(settings.users)
    if whole and settings.ray_address is None:
        _loopback()
    for field in ("valkey_ca", "valkey_cert", "valkey_key"):
        _readable(variable(field), getattr(settings, field))
    for field in ("tls_ca", "tls_cert", "tls_key"):
        _readable(variable(field), getattr(settings, field))
    if settings.tls is not None:
        try:
            Trust(settings.tls).calling()
        except OSError as error:
            raise Absent(f"CFM_TLS_CA, _CERT, _KEY: {why(error)}") from None
    if settings.valkey_url is not None:
        await _valkey("CFM_VALKEY_URL", settings.valkey_url, writes=True)
    if settings.valkey_replica_url is not None:
        await _valkey("CFM_VALKEY_REPLICA_URL", settings.valkey_replica_url)
    if settings.ray_address is not None:
        await _listens("CFM_RAY_ADDRESS", settings.ray_address)
    if settings.database_url is not None:
        await database(settings)


def place(url: str) -> str:
    """Where a URL points to (several places, if it names them), without user, password
    and query."""
    if is_valkey_cluster(url):
        return ",".join(place(url_at(url, *seed)) for seed in cluster_seeds(url))
    parts = urlsplit(url)
    if parts.scheme in ("unix", "sqlite"):
        return f"{parts.scheme}://{parts.path}"
    hosts = []
    for each in map(urlsplit, each_of(url)):
        host = each.hostname or ""
        port = f":{each.port}" if each.port else ""
        hosts.append(f"[{host}]{port}" if ":" in host else f"{host}{port}")
    return f"{parts.scheme}://{','.join(hosts)}"


def _readable(name: str, file: Path | None) -> None:
    try:
        if file is not None:
            file.open("rb").close()
    except OSError as error:
        raise Absent(f"{name}: {told(error)}") from None


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
    client = Valkey(url, timeout_s=CONNECT_S)
    end = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while True:
            try:
                await client.require_version()
                role = await _role(client)
                evicting = ""
                for one in (await client.primaries()).values():
                    with contextlib.closing(one):
                        evicting = evicting or evicts(await one.info("memory"))
                        if writes and client.sharded and one.server_of("").awaited:
                            _say(await promised(one))
                if writes and role == "master":
                    await _confirmed(client, where)
                break
            except TooOld as error:
                raise Absent(f"{where}: {error}") from None
            except Unavailable as error:
                why, heals = _refusal(error)
                if not heals or asyncio.get_running_loop().time() > end:
                    raise Absent(f"{where} {why}") from None
            await asyncio.sleep(PAUSE_S)
    finally:
        client.close()
    if writes and role not in ("master", None):
        raise Absent(f"{where} is a replica: name its primary")
    if writes and evicting:
        raise Absent(f"{where} {evicting}")


async def _confirmed(client: Valkey, where: str) -> None:
    """Replicas confirm what is written, if they are to; says what that promises."""
    wanted = client.server_of("").awaited
    if not wanted:
        return
    probe = ("SET", keys.barrier("start"), "", "PX", 1)
    try:
        (reply,) = await client.execute([probe], CONNECT_S, durable=True)
        checked(reply)
    except (Refused, UnknownOutcome) as error:
        if isinstance(error, Refused) and "NOREPLICAS" not in str(error.__cause__):
            raise
        found = await promised(client)
        few = f"fewer than {wanted} replicas confirm within {CONNECT_S:g} s"
        why = few if found.kept else found.says
        raise Absent(
            f"{where}: CFM_DURABILITY is `replica`, and {why} (start them, or set it "
            "to `disk`)"
        ) from None
    _say(await promised(client))


def _say(promise: Promise) -> None:
    log.log(logging.INFO if promise.kept else logging.WARNING, "%s", promise.says)


async def promised(client: Valkey) -> Promise:
    """What an acknowledgement promises there. Raises `Unavailable`."""
    return promise(
        await client.info("replication"),
        await client.info("persistence"),
        await configured(client),
        client.server_of("").awaited,
    )


async def configured(client: Valkey) -> dict[str, str]:
    """What of a server's configuration decides that; empty where we may not ask, as
    the product's own user."""
    replies = await client.execute(
        [("CONFIG", "GET", name) for name in (FSYNC, MIN_REPLICAS)]
    )
    found: dict[str, str] = {}
    for reply in replies:
        if not isinstance(reply, ReplyError):
            found |= {n.decode(): v.decode() for n, v in pairs(reply).items()}
    return found


async def _role(client: Valkey) -> str | None:
    """What the server is; of several each is a primary, as far as they know."""
    if client.sharded:
        return None
    return (await client.info("replication")).get("role")


_NOT_LET_IN = ("NOAUTH", "NOPERM", "WRONGPASS")


def _refusal(error: Unavailable) -> tuple[str, bool]:
    """What is wrong with a Valkey, and whether waiting may help."""
    for cause in _chain(error):
        if isinstance(cause, ReplyError):
            kind, _, why = str(cause).partition(" ")
            if kind in _NOT_LET_IN:
                return f"does not let us in: {why}", False
            if kind == "LOADING":
                return f"is not ready: {why}", True
        if isinstance(cause, ReplyError | ProtocolError):
            return f"does not answer as a Valkey does: {_first_line(cause)}", False
        if isinstance(cause, ssl.SSLError):
            why = cause.reason or _first_line(cause)
            return f"does not speak TLS as we do: {why} (valkey:// is without)", False
    why = _first_line(error) or f"no answer within {CONNECT_S:g} s"
    advice = "if it speaks TLS: valkeys://" if "closed" in why else ADVICE
    return f"does not answer: {why} ({advice})", True


async def _listens(name: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
    except (OSError, ValueError) as error:
        why = _first_line(error) or f"no answer within {CONNECT_S:g} s"
        raise Absent(f"{name}: {address} does not answer: {why} ({ADVICE})") from None


async def database(settings: Settings) -> None:
    """Raises `Absent` unless the database answers."""
    store = Store.of(settings)
    try:
        await store.ping()
    except Unavailable as error:
        where = place(settings.database_url or "")
        why = _first_line(error.__cause__ or error) or "no answer in time"
        raise Absent(
            f"CFM_DATABASE_URL: {where} does not answer: {why} ({ADVICE})"
        ) from None
    finally:
        await store.aclose()


def _chain(error: BaseException) -> list[BaseException]:
    """It, what it was raised from or during, and so on."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    return chain


def _first_line(error: BaseException) -> str:
    """The innermost cause in the system's own words, else what the client says."""
    cause = _chain(error)[-1]
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        if cause.errno is not None and cause.errno in errno.errorcode:
            return os.strerror(cause.errno)
    said = cause.message if isinstance(cause, Unavailable) else str(cause)
    return (said.strip().splitlines() or [""])[0].rstrip(".")
