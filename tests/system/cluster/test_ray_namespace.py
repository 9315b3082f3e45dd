"""What the namespace over Ray does when there are many actors, hung ones, or no Ray."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from cfmessenger.cli import process
from cfmessenger.cli.service import EXIT_LOST
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from tests.effort import long_only
from tests.patience import Stopwatch, within
from tests.system.cluster.ray_nodes import NamespaceServed, Nodes

pytestmark = pytest.mark.cluster


ACTOR = "ray::ObjectActor"


def fresh() -> str:
    return f"room:r{uuid.uuid4().hex[:20]}"


async def can_wake(client: NamespaceClient) -> None:
    async with within(60.0):
        while True:
            try:
                return await client.wakes()
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def nodes(valkey_url: str) -> Iterator[Nodes]:
    made = Nodes(valkey_url)
    try:
        made.start_node("uk")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def served(nodes: Nodes) -> NamespaceServed:
    return nodes.serve()


@pytest.fixture
async def client(served: NamespaceServed) -> AsyncIterator[NamespaceClient]:
    connection = served.client()
    yield connection
    await connection.close()


async def test_a_full_node_says_so_and_makes_nothing(
    nodes: Nodes, client: NamespaceClient
) -> None:
    awake = fresh()
    first = await client.resolve(awake)
    small = nodes.serve(CFM_MAX_ACTIVE_ROOMS="1").client()
    await can_wake(small)  # which it tries when it starts, with a process of its own
    # Not every worker: Ray may put an idle one in the place of the first.
    before = nodes.nodes["uk"].workers(ACTOR)
    with pytest.raises(Unavailable) as refused:
        await small.resolve(fresh())
    assert refused.value.code == "AT_CAPACITY"
    # Who is awake is found, and what is no room is not in anybody's way.
    assert (await small.resolve(awake)).pid == first.pid
    registry = await small.resolve("presence:global")
    assert nodes.nodes["uk"].workers(ACTOR) - before <= {registry.pid}
    await small.close()


async def test_a_hung_actor_is_killed_once_in_a_while(client: NamespaceClient) -> None:
    name = fresh()
    at = await client.resolve(name)
    assert not await client.kill(name, at.actor_id)  # it answers
    for hung_again in (False, True):
        os.kill(at.pid, signal.SIGSTOP)
        began = Stopwatch()
        killed = await client.kill(name, at.actor_id)
        assert killed is not hung_again
        if killed:
            assert began.seconds < 3.0
            at = await client.resolve(name)
    os.kill(at.pid, signal.SIGCONT)


async def test_describing_does_not_wait_for_each(client: NamespaceClient) -> None:
    rooms = [await client.resolve(fresh()) for _ in range(4)]
    for at in rooms[:3]:
        os.kill(at.pid, signal.SIGSTOP)
    began = Stopwatch()
    described = await client.describe()
    assert began.seconds < 2.0
    assert sum(each.state == "hung" for each in described) == 3
    for at in rooms[:3]:
        os.kill(at.pid, signal.SIGKILL)


@long_only
async def test_a_driver_without_its_cluster_ends(
    nodes: Nodes, served: NamespaceServed, client: NamespaceClient
) -> None:
    known = fresh()
    at = await client.resolve(known)
    process.send(nodes.control_store(), signal.SIGKILL)
    began = Stopwatch()
    # Who was found before may be found still, and nobody waits without an answer.
    asked = asyncio.gather(
        client.resolve(known), client.resolve(fresh()), return_exceptions=True
    )
    found, new = await asked
    assert isinstance(found, Unavailable) or found.pid == at.pid
    assert isinstance(new, Unavailable)
    assert await asyncio.to_thread(served.popen.wait, 30) == EXIT_LOST
    assert began.seconds < 25.0
