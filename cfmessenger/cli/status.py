"""`cfmessenger status`: the machines of a cluster, its rooms by node, its storage.

Read out of Valkey, so it also tells of a cluster in which nothing answers; only where
rooms are is asked of a namespace server.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter

import click
import msgspec

from cfmessenger.cli import world
from cfmessenger.cli.agreed import agreed
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.promise import Promise, promise, replicas_of
from cfmessenger.cli.running import namespace_of, valkey_of
from cfmessenger.cli.tables import age, show
from cfmessenger.environment import variable
from cfmessenger.errors import Unavailable
from cfmessenger.ids import is_room
from cfmessenger.link.greeting import OURS
from cfmessenger.link.namespace import Described
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import KNOWN, running
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.reserve import ALERT, FULL, share_of
from cfmessenger.storage.valkey import Valkey

SILENT_MS = 3000
"""A gateway that has not renewed its place for so long is silent."""


class NodeNow(msgspec.Struct, frozen=True):
    """A node: a row of the table. `for_ms`: since it joined; `release`: "" where it is
    too old to say."""

    id: str
    host: str
    address: str
    state: str
    rooms: int
    actors: int
    cores: int
    for_ms: int
    release: str = ""


class Now(msgspec.Struct, frozen=True):
    """All of `--json`. `head` and `owner`: a name, empty where there is none;
    `problems`: what is not as it should be, a sentence each; `capabilities`: of each
    who does not know it yet: it is on once nobody is left."""

    owner: str
    head: str
    nodes: list[NodeNow]
    gateways: dict[str, str]
    placement: str
    rooms: int
    storage: dict[str, str]
    problems: list[str]
    capabilities: dict[str, list[str]] = {}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@with_settings("data_dir", "cluster", "valkey_url")
def status(settings: Settings, as_json: bool) -> None:
    """Show the nodes, gateways and storage of a cluster, and what is wrong.

    Exits with 1 if something is.
    """
    try:
        now = asyncio.run(_now(settings))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(msgspec.json.encode(now).decode())
    else:
        _show(now)
    sys.exit(1 if now.problems else 0)


async def _now(settings: Settings) -> Now:
    kv = Valkey(valkey_of(settings))
    members = Members(kv)
    try:
        at = await members.now()
        nodes = await members.nodes()
        owner = await members.owner(Holder("", "")).read()
        head = await members.head(Holder("", ""), settings.ray_name).read()
        problems: list[str] = []
        awake, placement = await _rooms(settings, problems)
        gateways = await _gateways(kv, await kv.time(keys.GATEWAYS))
        there = await running(kv)
        storage = await _storage(kv)
        level = await members.agree(agreed(settings), keep=False)
        kept = await _promised(kv, level)
    finally:
        kv.close()
    storage["promise"] = kept.says
    problems += _problems(nodes, head, gateways, storage)
    if not kept.kept:
        problems.append(kept.says)
    by_node = Counter(each.node for each in awake if is_room(each.name))
    actors = Counter(node for node, _ in {(e.node, e.actor) for e in awake})
    rows = [
        NodeNow(
            *(each.id, each.host, each.address, each.state),
            *(by_node[each.id], actors[each.id], each.cores, at - each.since),
            each.release,
        )
        for each in sorted(nodes.values(), key=lambda n: (n.host, n.id))
    ]
    return Now(
        owner=owner.name if owner else "",
        head=f"{head.name} {head.address}" if head else "",
        nodes=rows,
        gateways=gateways,
        placement=placement,
        rooms=sum(by_node.values()),
        storage=storage,
        problems=problems,
        capabilities={each: there.lacking(each) for each in KNOWN},
    )


async def _rooms(
    settings: Settings, problems: list[str]
) -> tuple[list[Described], str]:
    try:
        client = await namespace_of(settings)
        try:
            found = await client.placement()
            awake = await client.describe()
        finally:
            await client.close()
    except Unavailable as problem:
        problems.append(f"no namespace server answers: {problem.message}")
        return [], "unknown"
    pools = f", {found.size} pools" if found.pools else ""
    return awake, f"{found.mode}{pools} (generation {found.number})"


async def _gateways(kv: Valkey, now: int) -> dict[str, str]:
    """Each, and what is wrong with it; empty: nothing."""
    flat = await kv.ask("ZRANGE", keys.GATEWAYS, 0, -1, "WITHSCORES")
    names = [name.decode() for name in flat[::2]]
    if not names:
        return {}
    lacking = await kv.ask("HMGET", keys.LACKING, *names)
    found = {}
    for name, renewed, lacks in zip(names, flat[1::2], lacking, strict=True):
        silent = now - float(renewed)
        if silent > SILENT_MS:
            found[name] = f"silent for {age(silent)}"
        else:
            found[name] = f"lacks {lacks.decode()}" if lacks else ""
    return found


async def _promised(kv: Valkey, level: dict[str, str]) -> Promise:
    """At the level that the cluster has, whoever asks."""
    wanted = 0
    if level.get(variable("durability")) == "replica":
        wanted = int(level[variable("durability_replicas")])
    return promise(
        await kv.info("replication"),
        await kv.info("persistence"),
        await world.configured(kv),
        wanted,
    )


async def _storage(kv: Valkey) -> dict[str, str]:
    """Of several servers what each says, in the order of their addresses."""
    each = []
    for one in (await kv.primaries()).values():
        with contextlib.closing(one):
            each.append(await _server(one))
    # The same of all is said once.
    said = {name: dict.fromkeys(one[name] for one in each) for name in each[0]}
    shards = {"shards": str(len(each))} if kv.sharded else {}
    return shards | {name: ", ".join(found) for name, found in said.items()}


async def _server(kv: Valkey) -> dict[str, str]:
    replication, memory = await kv.info("replication"), await kv.info("memory")
    persistence, replicas = await kv.info("persistence"), replicas_of(replication)
    return {
        "role": replication.get("role", "?"),
        "replicas": replication.get("connected_slaves", "?"),
        **({"lag": f"{max(e.lag_s for e in replicas)} s"} if replicas else {}),
        "memory": memory.get("used_memory_human", "?"),
        "limit": memory.get("maxmemory_human", "?"),
        "used": f"{share_of(memory):.0%}",
        "append_only": "yes" if persistence.get("aof_enabled") == "1" else "no",
    }


def _problems(
    nodes: dict[str, Node],
    head: Holder | None,
    gateways: dict[str, str],
    storage: dict[str, str],
) -> list[str]:
    found = [f"gateway {name}: {why}" for name, why in gateways.items() if why]
    found += [
        f"node {each.host} speaks version {each.link} of the link, {OURS} are spoken "
        "here"
        for each in nodes.values()
        if not OURS.oldest <= each.link <= OURS.newest + 1
    ]
    if not any(each.state == "up" for each in nodes.values()):
        found.append("no node takes rooms")
    if head is None and any(each.address for each in nodes.values()):
        found.append("no head: no room can get an actor of its own, nor a node join")
    share = int(storage["used"].rstrip("%"))
    if share >= ALERT * 100:
        found.append(
            f"{share} % of Valkey's memory is used: at {FULL:.0%} no message is taken"
        )
    if storage["append_only"] != "yes":
        found.append("Valkey keeps nothing on disk (appendonly no)")
    return found


def _show(now: Now) -> None:
    click.echo(f"owner      {now.owner or 'nobody'}")
    click.echo(f"head       {now.head or 'none'}")
    click.echo(f"placement  {now.placement}")
    told = {n: v for n, v in now.storage.items() if n != "promise"}
    click.echo(f"storage    {', '.join(f'{n} {v}' for n, v in told.items())}")
    click.echo(f"promise    {now.storage.get('promise', 'unknown')}")
    click.echo(f"rooms      {now.rooms} awake\n")
    columns = (
        *("node", "host", "address", "state", "for", "cores", "actors", "rooms"),
        "release",
    )
    rows = [
        (
            *(e.id[:8], e.host, e.address or "–", e.state, age(e.for_ms)),
            *(e.cores, e.actors, e.rooms, e.release or "older"),
        )
        for e in now.nodes
    ]
    if rows:
        show(columns, rows, whole=("address", "state", "for"))
    for name, why in now.gateways.items():
        click.echo(f"gateway {name}  {why or 'up'}")
    for name, lacking in now.capabilities.items():
        off = f"off: {', '.join(lacking)} must be replaced first"
        click.echo(f"capability {name}  {off if lacking else 'on'}")
    for each in now.problems:
        click.echo(f"! {each}")
