"""Looks at who has which slot, and who is left; the rest is in `test_cluster.py`."""

import asyncio
from contextlib import closing

import pytest

from cfmessenger.storage import shards as module
from cfmessenger.storage.cluster import Cluster
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.shards import Shards
from cfmessenger.storage.slots import Address
from tests.patience import Stopwatch
from tests.valkey_cluster import Node, ValkeyCluster

LENGTH = 10_000


def shards_of(log: ValkeyLog) -> Shards:
    assert isinstance(log._servers, Cluster)
    return log._servers._shards


def _calls(node: Node, command: str) -> int:
    return node.stat(f"cmdstat_{command}", "calls")


async def known(log: ValkeyLog) -> None:
    """The client knows who has which slot."""
    await log.ask("EXISTS", "cfm:x")


async def test_a_look_is_one_for_all_and_not_in_a_busy_loop(
    valkey_cluster: ValkeyCluster,
) -> None:
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as log:
        await known(log)
        count = sum(_calls(n, "cluster|slots") for n in valkey_cluster.primaries)
        shards = shards_of(log)
        for _ in range(100):
            shards.doubt()
        await asyncio.gather(*(shards.now() for _ in range(100)))
        taken = sum(_calls(n, "cluster|slots") for n in valkey_cluster.primaries)
        assert taken - count == 1
        watch = Stopwatch()
        for _ in range(3):
            await shards.now()
        assert watch.wall > 3 * module.REST_S


async def test_a_server_that_is_no_primary_any_more_is_left(
    valkey_cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GONE_S", 0.05)
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as log:
        await known(log)
        shards = shards_of(log)
        primaries = set(await shards.at_all())
        shards.server(Address("127.0.0.1", 1))
        await shards.now()
        assert set(shards._servers) <= primaries
