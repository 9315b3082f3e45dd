"""What a machine knows of the cluster that it is a part of (design.md §13).

Everything comes out of Valkey: the secret that all machines share, where the head is,
and under which address this machine is reached. `keep` runs for as long as the machine
does: the head says where it is, and a node's relay leads to a head that has moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from typing import Literal
from urllib.parse import urlsplit

from cfmessenger.addresses import each_of, is_valkey_cluster
from cfmessenger.cli.local_ray import Place
from cfmessenger.cli.relay import Relay
from cfmessenger.cli.running import NAMESPACE_KEY, namespace_key
from cfmessenger.cli.runtime import Refused
from cfmessenger.environment import SettingsError
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage.members import LEASE_MS, Holder, Lease, Members
from cfmessenger.storage.valkey import Valkey
from gateway.server.door import raise_file_limit

log = logging.getLogger("cfmessenger.up")

LOOK_EVERY_S = 1.0
HEAD_S = 60.0
"""How long a node waits for a head."""
VOID_S = LEASE_MS / 1000 + LOOK_EVERY_S
"""By then the lease of a head that is gone has ended."""


class Joined:
    """A machine of a cluster. `place`: its part of Ray; None: no Ray of ours."""

    def __init__(
        self, settings: Settings, members: Members, address: str, secret: str
    ) -> None:
        self.place: Place | None = None
        self.namespace = f"tcp://{_bracketed(address)}:{settings.namespace_port}"
        self.env = {
            NAMESPACE_KEY: namespace_key(secret),
            "CFMX_NAMESPACE_TCP": self.namespace,
            "CFMX_NODE_ADDRESS": address,
        }
        self._settings = settings
        self._members = members
        self._address = address
        self._secret = secret
        self._lease: Lease | None = None  # the head's; of a machine with Ray of ours
        self._head: Holder | None = None  # of a node: to which its relay leads
        self._relay = Relay()  # open from `be_node` to `leave`

    async def be_head(self, patience_s: float = VOID_S) -> None:
        """Raises `Refused` if the cluster has one."""
        port = self._settings.ray_port
        at = f"{_bracketed(self._address)}:{port}"
        mine = Holder(secrets.token_hex(8), socket.gethostname(), at)
        self._lease = self._members.head(mine, self._settings.ray_name)
        loop = asyncio.get_running_loop()
        end, told = loop.time() + patience_s, False
        while (holder := await self._lease.hold()).id != mine.id:
            if loop.time() > end:
                raise Refused(
                    f"the cluster has a head: {holder.name} at {holder.address}"
                )
            if not told:
                log.info("waiting for the head at %s to be void", holder.address)
                told = True
            await asyncio.sleep(LOOK_EVERY_S)
        store = self._settings.ray_store_url or self._settings.valkey_url or ""
        one = urlsplit(store).scheme in ("valkey", "valkeys", "redis", "rediss")
        kept = store if one and len(each_of(store)) == 1 else None
        if is_valkey_cluster(store):
            log.warning("what Ray knows ends with this head: %s", _NOT_IN_A_CLUSTER)
        elif kept is None:
            log.warning("what Ray knows ends with this head: %s", _NO_STORE)
        self.place = Place(
            *(self._address, self._secret),
            port=port,
            store=kept,
            name=self._settings.ray_name,
            tls=self._settings.tls,
        )

    async def be_node(self, patience_s: float = HEAD_S) -> None:
        """Raises `Refused` if there is no head."""
        if self._settings.ray_address is not None:
            return
        loop = asyncio.get_running_loop()
        end, told = loop.time() + patience_s, False
        lease = self._members.head(Holder("", ""), self._settings.ray_name)
        while (found := await lease.read()) is None:
            if loop.time() > end:
                raise Refused("the cluster has no head: start one, `cfmessenger head`")
            if not told:
                log.info("waiting for a head")
                told = True
            await asyncio.sleep(LOOK_EVERY_S)
        self._lease, self._head = lease, found
        raise_file_limit()  # the relay's connections are of all actors here
        await self._relay.open(found.address)
        self.place = Place(
            *(self._address, self._secret),
            head=self._relay.address,
            tls=self._settings.tls,
        )

    async def keep(self) -> None:
        """For as long as the machine runs. Raises `Refused`: another head took over."""
        if self._lease is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(Unavailable):
                if self._head is None:
                    await self._renew(self._lease)
                elif (found := await self._lease.read()) is not None:
                    self._follow(found)

    async def _renew(self, lease: Lease) -> None:
        holder = await lease.hold()
        if holder.id != lease.mine.id:
            raise Refused(f"{holder.name} at {holder.address} is the head now")

    def _follow(self, found: Holder) -> None:
        """One that has begun again at the same address is another head, too: who waits
        for an answer of the one before is not to wait for a timeout."""
        if found != self._head:
            log.warning("the head is %s at %s now", found.name, found.address)
            self._head = found
            self._relay.lead(found.address)

    async def leave(self) -> None:
        """Nobody has to wait for a head that ends in order."""
        self._relay.close()
        if self._lease is not None and self._head is None:
            with contextlib.suppress(Unavailable):
                await self._lease.release()


async def alone_or_shared(settings: Settings) -> None:
    """A messenger on a Ray that others are on too needs a database that they share.
    Raises `SettingsError` or `Unavailable`."""
    if (settings.database_url or "").startswith("postgres"):
        return
    assert settings.valkey_url is not None
    kv = Valkey(settings.valkey_url)
    try:
        nodes = (await Members(kv).nodes()).values()
    finally:
        kv.close()
    if hosts := {each.host for each in nodes} - {socket.gethostname()}:
        there = ", ".join(sorted(hosts))
        raise SettingsError(f"CFM_DATABASE_URL: {there} is there too; {_SHARED}")


async def join(
    settings: Settings, part: Literal["own", "head", "node"] | None
) -> Joined:
    """Join as a head, a node, or neither. Raises `SettingsError`, `Refused` or
    `Unavailable`."""
    if settings.valkey_url is None:
        raise SettingsError("CFM_VALKEY_URL: a cluster needs a Valkey that all reach")
    if part is None and not (settings.database_url or "").startswith("postgres"):
        raise SettingsError(f"CFM_DATABASE_URL: {_SHARED}")
    members = Members(Valkey(settings.valkey_url))
    address = settings.node_address or reaching(settings.valkey_url)
    joined = Joined(settings, members, address, await members.secret())
    if part == "head":
        await joined.be_head()
    elif part == "node":
        await joined.be_node()
    else:
        joined.env["CFMX_NAMESPACE"] = "cluster"
    return joined


def reaching(url: str) -> str:
    """This machine's address on the way to that server. Raises `Refused`."""
    parts = urlsplit(each_of(url)[0])
    if parts.scheme == "unix" or not parts.hostname:
        return "127.0.0.1"
    try:
        found = socket.getaddrinfo(
            parts.hostname, parts.port or 6379, type=socket.SOCK_DGRAM
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise Refused(
            f"CFM_NODE_ADDRESS: no way to {parts.hostname} is known: {error.strerror}"
        ) from None


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


_NO_STORE = (
    "CFM_RAY_STORE_URL is `none`, or Valkey is on a Unix socket, several hosts or "
    "behind Sentinels"
)
_NOT_IN_A_CLUSTER = (
    "Ray cannot use a Valkey Cluster; CFM_RAY_STORE_URL names a Valkey of its own, or "
    "is `none`"
)
_SHARED = (
    "a cluster needs PostgreSQL; with SQLite each machine would have users and orders "
    "of its own"
)
