"""A node knows whether a room could wake on it, and its gateways say so."""

from __future__ import annotations

import httpx2
import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Namespace, NamespaceClient
from tests.effort import long_only
from tests.gateway.node import eventually
from tests.system.cluster.cluster import Cluster, Visit

pytestmark = pytest.mark.cluster

PATIENCE_S = 60.0  # 6 s at most; a busy machine may take longer


async def why_not(namespace: Namespace) -> str:
    """The reason; empty: they wake."""
    try:
        await namespace.wakes()
    except Unavailable as problem:
        return problem.message
    return ""


async def wakes(namespace: Namespace) -> bool:
    return await why_not(namespace) == ""


async def readyz(cluster: Cluster) -> list[tuple[int, str]]:
    """What each gateway answers."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        found = [
            await http.get(f"http://127.0.0.1:{gateway.port}/readyz")
            for gateway in cluster.gateways
        ]
    return [(each.status_code, each.text) for each in found]


@long_only
async def test_a_node_without_its_sockets_says_so_until_rooms_wake_again(
    cluster: Cluster, visit: Visit
) -> None:
    """As when a cleaner emptied the folder: who is awake goes on, nobody else wakes."""
    await eventually(lambda: wakes(visit.names), PATIENCE_S)
    raylet = cluster.folder / "ray" / "session_latest" / "sockets" / "raylet"
    aside = raylet.with_name("aside")
    raylet.rename(aside)
    try:

        async def said() -> bool:
            return "raylet" in await why_not(visit.names)

        await eventually(said, PATIENCE_S)

        async def alike() -> bool:
            # Both are on this node, so nobody could do it instead.
            return all(
                status == 200 and "wake down\ndegraded: wake\n" in text
                for status, text in await readyz(cluster)
            )

        await eventually(alike, PATIENCE_S)
    finally:
        aside.rename(raylet)
    await eventually(lambda: wakes(visit.names), PATIENCE_S)

    async def well() -> bool:
        return all(text.endswith("wake ok\n") for _, text in await readyz(cluster))

    await eventually(well, PATIENCE_S)


async def test_a_tried_wake_leaves_no_key_and_no_actor(
    cluster: Cluster, visit: Visit
) -> None:
    """A namespace server tries one as soon as it starts."""
    awake = {each.name for each in await visit.names.describe()}
    with cluster.admin() as client:
        before = set(client.keys("*:log"))
    server = cluster.start_namespace("prover.sock")
    names = NamespaceClient(f"unix:{cluster.folder / 'prover.sock'}")
    try:
        server.wait_ready()
        await eventually(lambda: wakes(names), PATIENCE_S)
        with cluster.admin() as client:
            assert set(client.keys("*:log")) <= before
        assert {each.name for each in await names.describe()} <= awake
    finally:
        await names.close()
        server.stop()
