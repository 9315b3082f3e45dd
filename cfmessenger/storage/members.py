"""The cluster, as its machines tell each other of it: who owns it, who is there.

Everything is a lease in Valkey, said again each second and void soon after the last
time, so nothing has to be tidied up after a machine that is gone (design.md §13).
Whoever reads it may act on what is some seconds old: the epoch of each object is what
makes that safe.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey

LEASE_MS = 10_000
"""The owner and the head are believed to be there for so long after their last word."""

NODE_S = 4
"""A node, likewise."""


class Holder(msgspec.Struct, frozen=True):
    """Who has a lease. `id` is the same for all that may hold it together; `name` is
    for people, `address` for who wants to connect."""

    id: str
    name: str
    address: str = ""


class Node(msgspec.Struct, frozen=True):
    """A machine on which objects may live. `id` is Ray's; `address` its namespace
    server's, for gateways of other machines ("": none listens); `state`: `up`,
    `draining`, or what a later release calls it; `since`: when it joined, in ms of
    Valkey's clock. `link`: the newest version of the link that is spoken there; a node
    of the release before says none. `cluster`: the id of the Ray cluster that it is a
    node of; `release` and `knows`: of its code (capabilities.py), empty where that is
    too old to say."""

    id: str
    host: str
    address: str = ""
    state: str = "up"
    cores: int = 1
    since: int = 0
    link: int = 5
    cluster: str = ""
    release: str = ""
    knows: tuple[str, ...] = ()


_encode = msgspec.json.Encoder().encode
_holder = msgspec.json.Decoder(Holder).decode
_node = msgspec.json.Decoder(Node).decode
_agreed = msgspec.json.Decoder(dict[str, str]).decode


class Lease:
    """One lease, as one of those that want it. Every method may raise `Unavailable`."""

    def __init__(self, kv: Valkey, key: str, mine: Holder) -> None:
        self._kv = kv
        self._key = key
        self.mine = mine

    async def hold(self) -> Holder:
        """Take it if it is void, renew it if it is ours; who has it now."""
        ours = _encode(self.mine)
        found = await self._kv.ask(
            *("SET", self._key, ours, "NX", "GET", "PX", LEASE_MS)
        )
        if found is None:
            return self.mine
        holder = _holder(found)
        if holder.id == self.mine.id:
            # Another's word may stand there; if that ends meanwhile, next time.
            await self._kv.ask(*("SET", self._key, ours, "IFEQ", found, "PX", LEASE_MS))
        return holder

    async def read(self) -> Holder | None:
        """Who has it; None: nobody."""
        found = await self._kv.ask("GET", self._key)
        return None if found is None else _holder(found)

    async def take(self) -> None:
        """Have it, whoever else does: they find out at their next `hold`."""
        await self._kv.ask("SET", self._key, _encode(self.mine), "PX", LEASE_MS)

    async def release(self) -> None:
        """Nobody has to wait for it, if it was ours alone."""
        ours = _encode(self.mine)
        await self._kv.ask("SET", self._key, ours, "IFEQ", ours, "PX", 1)


class Members:
    """Who is in the cluster. Every method may raise `Unavailable`."""

    def __init__(self, kv: Valkey) -> None:
        self._kv = kv

    def owner(self, mine: Holder) -> Lease:
        """The lease of this Valkey: one cluster at a time may have it."""
        return Lease(self._kv, keys.OWNER, mine)

    async def owned_by(self) -> str:
        """The id of the cluster that has it; "": none."""
        holder = await self.owner(Holder("", "")).read()
        return holder.id if holder is not None else ""

    def head(self, mine: Holder, ray_name: str = "") -> Lease:
        """The lease of the machine with the control store of this Ray."""
        return Lease(self._kv, keys.head(ray_name), mine)

    async def secret(self) -> str:
        """What every machine of the cluster knows and nobody else: whoever may read
        this Valkey may do anything here anyway. Made by the first who asks."""
        made = secrets.token_hex(32)
        command = ("SET", keys.CLUSTER_SECRET, made, "NX", "GET")
        found = await self._kv.ask(*command, durable=True)
        return made if found is None else str(found, "ascii")

    async def say(self, node: Node) -> None:
        """This node is there, for `NODE_S` from now."""
        field = ("EX", NODE_S, "FIELDS", 1, node.id, _encode(node))
        await self._kv.ask("HSETEX", keys.NODES, *field)

    async def withdraw(self, node_id: str) -> None:
        """It is not there any more."""
        await self._kv.ask("HDEL", keys.NODES, node_id)

    async def nodes(self) -> dict[str, Node]:
        """Those that are there, by id. One that cannot be read is none of ours."""
        flat = await self._kv.ask("HGETALL", keys.NODES)
        found: dict[str, Node] = {}
        for value in flat[1::2]:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                node = _node(value)
                found[node.id] = node
        return found

    async def agree(self, mine: Mapping[str, str], keep: bool) -> dict[str, str]:
        """The settings that all machines must have, those of the first; `keep` says
        them again. Nobody keeps them: they are forgotten, and the next start may have
        others."""
        ours = _encode(dict(sorted(mine.items())))
        if keep:
            said = ("SET", keys.AGREED, ours, "NX", "GET", "PX", LEASE_MS)
            found = await self._kv.ask(*said)
        else:
            found = await self._kv.ask("GET", keys.AGREED)
        if found is None:
            return dict(mine)
        if keep and found == ours:
            await self._kv.ask("SET", keys.AGREED, ours, "IFEQ", ours, "PX", LEASE_MS)
        return _agreed(found)

    async def insist(self, mine: Mapping[str, str]) -> None:
        """Nobody else can be there: what a life before this one has said is void."""
        ours = _encode(dict(sorted(mine.items())))
        await self._kv.ask("SET", keys.AGREED, ours, "PX", LEASE_MS)

    async def forget(self, mine: Mapping[str, str]) -> None:
        """Nobody is left who had these: the next start may have others at once."""
        ours = _encode(dict(sorted(mine.items())))
        await self._kv.ask("SET", keys.AGREED, ours, "IFEQ", ours, "PX", 1)

    async def now(self) -> int:
        """Valkey's clock, in ms since 1970."""
        return await self._kv.time(keys.NODES)


class Finder:
    """Where the namespace servers of a cluster are, for who asks them. `here`: this
    machine's address in it."""

    def __init__(self, members: Members, here: str = "") -> None:
        self._members = members
        self._here = here
        self._known: list[str] = []  # as last found

    async def find(self) -> list[str]:
        """Their addresses, each with `#` and the newest version of the link that is
        spoken there: this machine's first, then the others', at the end those of nodes
        that leave, or whose cluster is not the owner any more. As last known while
        Valkey is away. Raises `Unavailable` if none was ever known."""
        try:
            nodes = list((await self._members.nodes()).values())
            owner = await self._members.owned_by()
        except Unavailable:
            if not self._known:
                raise
            return self._known
        random.shuffle(nodes)  # not all gateways to the same one
        whose = ("", owner)
        nodes.sort(
            key=lambda e: (e.cluster not in whose, e.state != "up", not self._near(e))
        )
        found = [f"{each.address}#{each.link}" for each in nodes if each.address]
        self._known = found or self._known
        return self._known

    def _near(self, node: Node) -> bool:
        return urlsplit(node.address).hostname == self._here


def differences(mine: Mapping[str, str], agreed: Mapping[str, str]) -> list[str]:
    """What this machine would do otherwise than the cluster: a sentence each."""
    return [
        f"{name}: {mine.get(name, 'unknown')!r} here, {agreed[name]!r} in the cluster"
        for name in sorted(agreed)
        if mine.get(name) != agreed[name]
    ]
