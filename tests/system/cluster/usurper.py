"""A second host of a name that Ray knows of once, and gateways played by the test."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from actors.host import Host
from actors.host_settings import HostSettings
from cfmessenger.link.namespace import Address
from cfmessenger.storage import keys
from tests.actors.caller import Caller
from tests.system.cluster.cluster import Cluster

LONG_MS = 600_000


@asynccontextmanager
async def gateway_at(
    cluster: Cluster, at: Address, room: str, gateway: str
) -> AsyncIterator[Caller]:
    """Linked to this host, with one socket in the room: `<gateway>.1`."""
    with cluster.admin() as client:
        # A gateway that has not renewed its place lately is taken for dead: this one
        # has done so for the whole of a test.
        client.zadd(keys.GATEWAYS, {gateway: time.time_ns() // 1_000_000 + LONG_MS})
    caller = await Caller.open(at, gateway)
    try:
        caller.enter(f"room:{room}", f"{gateway}.1")
        await caller.visitor.until(lambda: bool(caller.visitor.covered))
        yield caller
    finally:
        caller.close()
        with cluster.admin() as client:
            client.zrem(keys.GATEWAYS, gateway)


@asynccontextmanager
async def usurper(
    cluster: Cluster, room: str, **settings: Any
) -> AsyncIterator[Caller]:
    """A host of the room that Ray does not know of, and a gateway linked to it."""
    host = Host(
        HostSettings(
            valkey_url=cluster.valkey.url,
            log_length=10_000,
            hibernate_after=60.0,
            chat_rate=(0, 1),
            nudge_rate=(0, 1),
            **settings,
        )
    )
    await host.start()
    try:
        async with gateway_at(cluster, host.address(""), room, "gUsurper") as caller:
            yield caller
    finally:
        await host.kill()
