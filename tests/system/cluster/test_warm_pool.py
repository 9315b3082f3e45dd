"""Idle Ray workers are there before a room needs one, and again after it took one."""

import os
import signal
import statistics
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from cfmessenger.cli import process
from cfmessenger.link.namespace import NamespaceClient
from tests.effort import long_only
from tests.patience import Stopwatch
from tests.system.cluster.ray_nodes import Child, NamespaceServed, Nodes, eventually

pytestmark = [long_only, pytest.mark.cluster]

WARM = 2
PATIENCE_S = 20.0  # a worker starts in 0.5 s on an idle machine
IDLE = "ray::IDLE"


def fresh() -> str:
    return f"room:r{uuid.uuid4().hex[:20]}"


@pytest.fixture(scope="module")
def nodes(valkey_url: str) -> Iterator[Nodes]:
    """One node that by itself would keep no more than one idle worker."""
    made = Nodes(valkey_url)
    try:
        made.start_node("uk")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def node(nodes: Nodes) -> Child:
    return nodes.nodes["uk"]


@pytest.fixture
def served(nodes: Nodes) -> Iterator[NamespaceServed]:
    server = nodes.serve(CFM_WARM_WORKERS=str(WARM))
    yield server
    nodes.others.remove(server)
    server.kill()


@pytest.fixture
async def client(served: NamespaceServed) -> AsyncIterator[NamespaceClient]:
    connection = served.client()
    yield connection
    await connection.close()


def warm(node: Child) -> set[int]:
    """The idle workers, once there are as many as there should be."""
    eventually(lambda: len(node.workers(IDLE)) >= WARM, PATIENCE_S)
    return node.workers(IDLE)


async def test_a_room_takes_a_warm_worker_and_another_takes_its_place(
    node: Child, client: NamespaceClient
) -> None:
    await client.resolve(fresh())  # the first one exports the class
    took = []
    for _ in range(4):
        ready = warm(node)
        began = Stopwatch()
        at = await client.resolve(fresh())
        took.append(began.seconds)
        assert at.pid in ready
    assert statistics.median(took) < 0.4, took  # 0.03 s on an idle machine, cold 0.5


async def test_more_rooms_than_workers_start_all_the_same(
    node: Child, client: NamespaceClient
) -> None:
    warm(node)
    pids = {(await client.resolve(fresh())).pid for _ in range(4)}
    assert len(pids) == 4
    warm(node)
    assert len(node.workers(IDLE)) <= 2 * WARM


async def test_workers_that_die_idle_are_replaced(
    node: Child, client: NamespaceClient
) -> None:
    before = warm(node)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(node.workers(IDLE) - before) >= WARM, PATIENCE_S)


async def test_the_pool_outlives_the_server_that_filled_it(
    nodes: Nodes, node: Child, served: NamespaceServed
) -> None:
    ready = warm(node)
    (row,) = [r for r in process.entries() if r.pid == served.popen.pid]
    process.send(row, signal.SIGKILL)
    served.popen.wait(5)
    again = nodes.serve(CFM_WARM_WORKERS=str(WARM))
    connection = again.client()
    at = await connection.resolve(fresh())
    assert at.pid in ready
    await connection.close()
    nodes.others.remove(again)
    again.kill()
