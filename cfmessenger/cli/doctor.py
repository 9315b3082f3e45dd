"""`cfmessenger doctor`: looks at what a machine or a cluster needs; says what to do.

Each check is one line: what was looked at, what was found, and advice where it is not
as it should be. It changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
import msgspec

from cfmessenger.addresses import (
    TLS_SCHEMES,
    each_of,
    is_loopback,
    server_url,
    with_parameters,
)
from cfmessenger.cli import world
from cfmessenger.cli.agreed import agreed
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.promise import FSYNC, Replica, replicas_of
from cfmessenger.cli.running import namespace_key, valkey_of
from cfmessenger.cli.world import Absent
from cfmessenger.environment import SettingsError, variable
from cfmessenger.errors import Unavailable
from cfmessenger.link.greeting import OURS, PROVES
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.settings import Settings
from cfmessenger.storage.members import Holder, Members, Node, differences
from cfmessenger.storage.reserve import ALERT, FULL, evicts, share_of
from cfmessenger.storage.valkey import Valkey
from cfmessenger.tls import Trust, days_left, why

FILES = 65_536
"""Sockets of a gateway and links of a host are files."""
CLOCK_MS = 1000
RENEW_DAYS = 14
UNLIMITED = (
    "when the machine has no memory left the system ends it, and everybody waits; set "
    "maxmemory to what it may have"
)

Verdict = Literal["ok", "note", "bad"]


class Finding(NamedTuple):
    """One line: `what` was looked at, what was `found`. `note`: good to know."""

    verdict: Verdict
    what: str
    found: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings("data_dir", "cluster", "valkey_url", "database_url", "users")
def doctor(settings: Settings, as_json: bool) -> None:
    """Check settings, storage, clocks, limits and the machines of the cluster.

    Reads the same CFM_* variables as the role that is to run here. Exits with 1 if
    something is not as it must be.
    """
    findings = asyncio.run(_examine(settings))
    for each in findings:
        if as_json:
            click.echo(msgspec.json.encode(each._asdict()).decode())
        else:
            mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[each.verdict]
            click.echo(f"{mark}  {each.what}: {each.found}")
    sys.exit(any(each.verdict == "bad" for each in findings))


async def _examine(settings: Settings) -> list[Finding]:
    found = [*_machine(), *_open(settings), *await _database(settings)]
    try:
        url = valkey_of(settings)
    except Unavailable as problem:
        return [*found, Finding("bad", "Valkey", problem.message)]
    kv = Valkey(url)
    try:
        return [
            *found,
            *await _storage(kv),
            *await _clock(kv),
            *await _cluster(Members(kv), settings),
        ]
    except Unavailable as problem:
        return [*found, Finding("bad", f"Valkey {world.place(url)}", problem.message)]
    finally:
        kv.close()


def _machine() -> list[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = min(hard, FILES) < FILES
    found = [
        Finding(
            "note" if few else "ok",
            "open files",
            f"{hard} at most" + (f"; {FILES} are better (ulimit -n)" if few else ""),
        )
    ]
    overcommit = Path("/proc/sys/vm/overcommit_memory")
    if overcommit.exists() and overcommit.read_text().strip() != "1":
        found.append(
            Finding(
                "note",
                "vm.overcommit_memory",
                "not 1: a Valkey here may fail to rewrite its file when memory is low",
            )
        )
    return found


async def _database(settings: Settings) -> list[Finding]:
    if settings.database_url is None:
        found = "SQLite in the data folder: for one machine only"
        return [Finding("note", "CFM_DATABASE_URL", found)]
    where = world.place(settings.database_url)
    try:
        await world.database(settings)
    except (Absent, SettingsError) as error:
        return [Finding("bad", "CFM_DATABASE_URL", str(error))]
    if where.startswith("sqlite"):
        return [Finding("note", "CFM_DATABASE_URL", f"{where}: for one machine only")]
    return [Finding("ok", "CFM_DATABASE_URL", f"{where} answers")]


async def _storage(kv: Valkey) -> list[Finding]:
    """Every server that has keys."""
    found = []
    for url, each in (await kv.primaries()).items():
        with contextlib.closing(each):
            try:
                found += await _valkey(each, url)
            except Unavailable as problem:
                where = f"Valkey {world.place(url)}"
                found.append(Finding("bad", where, problem.message))
    return found


async def _valkey(kv: Valkey, url: str) -> list[Finding]:
    what = f"Valkey {world.place(url)}"
    began = time.perf_counter()
    version = await kv.require_version()
    took = (time.perf_counter() - began) * 1000
    found = [Finding("ok", what, f"{version}, answers in {took:.1f} ms")]
    replication, memory = await kv.info("replication"), await kv.info("memory")
    if replication.get("role") != "master":
        found.append(Finding("bad", what, "is a replica: name its primary"))
    replicas = replicas_of(replication)
    said = f"{len(replicas)} replicas" if replicas else "no replica: its disk is all"
    found.append(Finding("ok" if replicas else "note", what, said))
    if (await kv.info("persistence")).get("aof_enabled") != "1":
        found.append(Finding("bad", what, "keeps nothing on disk: appendonly yes"))
    if replication.get("role") == "master":
        kept = await world.promised(kv)
        found.append(Finding("ok" if kept.kept else "bad", "promise", kept.says))
        found += [await _replica(each, url) for each in replicas]
    if wrong := evicts(memory):
        found.append(Finding("bad", what, wrong))
    if not int(memory.get("maxmemory", 0)):
        found.append(Finding("note", what, f"no maxmemory: {UNLIMITED}"))
    elif (share := share_of(memory)) >= ALERT:
        full = f"{share:.0%} of its memory is used: at {FULL:.0%} no message is taken"
        found.append(Finding("bad", what, full))
    return found


async def _replica(told: Replica, url: str) -> Finding:
    """Whether it would keep what it has, once it is the primary."""
    host = f"[{told.host}]" if ":" in told.host else told.host
    what = f"replica {host}:{told.port}"
    if not told.online:
        return Finding("bad", what, "is not in step with its primary")
    kv = Valkey(with_parameters(server_url(url, f"{host}:{told.port}"), replicas=None))
    try:
        persistence = await kv.info("persistence")
        fsync = (await world.configured(kv)).get(FSYNC, "always")
    except Unavailable as problem:
        return Finding("note", what, f"not reached from here: {problem.message}")
    finally:
        kv.close()
    lag = f"heard {told.lag_s} s ago"
    if persistence.get("aof_enabled") != "1":
        return Finding("bad", what, f"{lag}, keeps nothing on disk: appendonly yes")
    if fsync != "always":
        return Finding("note", what, f"{lag}, {FSYNC} {fsync}: `always` loses nothing")
    return Finding("ok", what, lag)


async def _clock(kv: Valkey) -> list[Finding]:
    before = time.time_ns() // 1_000_000
    at = await Members(kv).now()
    after = time.time_ns() // 1_000_000
    off = max(before - at, at - after, 0)
    if off > CLOCK_MS:
        return [Finding("bad", "clock", f"{off} ms from Valkey's: run an NTP client")]
    return [Finding("ok", "clock", f"within {max(off, after - before)} ms of Valkey's")]


async def _cluster(members: Members, settings: Settings) -> list[Finding]:
    owner = await members.owner(Holder("", "")).read()
    if owner is None:
        return [Finding("note", "cluster", "none runs on this Valkey")]
    found = [Finding("ok", "cluster", f"of {owner.name}")]
    wrong = differences(agreed(settings), await members.agree(agreed(settings), False))
    if wrong:
        found += [Finding("bad", "settings", each) for each in wrong]
    else:
        found.append(Finding("ok", "settings", "as all machines have them"))
    head = await members.head(Holder("", ""), settings.ray_name).read()
    nodes = await members.nodes()
    if head is None and any(each.address for each in nodes.values()):
        found.append(Finding("bad", "head", "none: start one, `cfmessenger head`"))
    elif head is not None:
        found.append(await _listens("head", head.address))
    key = namespace_key(await members.secret())
    trust = None if settings.tls is None else Trust(settings.tls)
    for each in nodes.values():
        if each.address:
            what, at = f"node {each.host}", f"{each.address}#{each.link}"
            found.append(await _answers(what, at, key, trust))
        if (told := _release(each)) is not None:
            found.append(told)
    if not nodes:
        found.append(Finding("bad", "nodes", "none: start one, `cfmessenger node`"))
    return found


def _release(node: Node) -> Finding | None:
    """Whether it speaks another version of the link than is spoken here."""
    what = f"node {node.host}"
    if OURS.oldest <= node.link <= OURS.newest + 1:
        if node.link >= PROVES:
            return None
        told = "is of the release before, to which keys are sent: renew it"
        return Finding("note", what, told)
    told = f"speaks version {node.link} of the link, {OURS} are spoken here"
    return Finding("bad", what, told)


def _open(settings: Settings) -> list[Finding]:
    """What goes over a network, and whether it can be read there."""
    found = [_between_machines(settings)]
    for field in ("valkey_url", "valkey_replica_url", "ray_store_url"):
        url = getattr(settings, field)
        if url is not None and _leaves(url) and urlsplit(url).scheme not in TLS_SCHEMES:
            told = f"{world.place(url)} is reached in clear text: valkeys:// is not"
            found.append(Finding("note", variable(field), told))
    database = settings.database_url
    if database is not None and database.startswith("postgres") and _leaves(database):
        mode = dict(parse_qsl(urlsplit(database).query)).get("sslmode", "prefer")
        if mode not in ("require", "verify-ca", "verify-full"):
            told = f"sslmode={mode} may be clear text: sslmode=verify-full is not"
            found.append(Finding("note", "CFM_DATABASE_URL", told))
    ai = settings.ai_base_url
    if ai is not None and _leaves(ai) and urlsplit(ai).scheme == "http":
        told = "what people say to bots is sent in clear text: https:// is not"
        found.append(Finding("note", "CFM_AI_BASE_URL", told))
    return found


def _leaves(url: str) -> bool:
    """Whether one of its hosts is not this machine."""
    if url.startswith(("unix:", "none")):
        return False
    hosts = (urlsplit(each).hostname or "127.0.0.1" for each in each_of(url))
    return not all(map(is_loopback, hosts))


def _between_machines(settings: Settings) -> Finding:
    what = "between machines"
    files = settings.tls
    if files is None:
        told = (
            "links, the namespace and Ray speak clear text: set CFM_TLS_CA and "
            "CFM_TLS_CERT, or keep them on a network of their own"
        )
        return Finding("note", what, told)
    try:
        Trust(files).calling()
        days = days_left(files.cert)
    except OSError as error:
        return Finding("bad", what, f"CFM_TLS_CA, _CERT, _KEY: {why(error)}")
    if days < 0:
        return Finding("bad", what, f"{files.cert} has ended: renew it")
    told = f"TLS; {files.cert} is good for {days:.0f} days"
    return Finding("note" if days < RENEW_DAYS else "ok", what, told)


async def _listens(what: str, address: str) -> Finding:
    parts = urlsplit(f"//{address}")
    try:
        async with asyncio.timeout(world.CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError as error:
        why = error.strerror or "no answer"
        return Finding("bad", what, f"{address} is not reached from here: {why}")
    writer.close()
    return Finding("ok", what, f"{address} is reached from here")


async def _answers(what: str, at: str, key: str, trust: Trust | None) -> Finding:
    client, address = NamespaceClient(at, key, trust=trust), at.partition("#")[0]
    try:
        async with asyncio.timeout(world.CONNECT_S):
            await client.ping()
    except (Unavailable, TimeoutError):
        return Finding("bad", what, f"{address} does not answer from here")
    finally:
        await client.close()
    return Finding("ok", what, f"{address} answers from here")
