"""A head that is away, and one that begins elsewhere: a node and its room go on.

One cluster for the module, whose tests go in order: each begins with a head.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from cfmessenger.cli.local_ray import token_env
from cfmessenger.storage import keys
from tests.effort import long_only
from tests.gateway.node import Node
from tests.postgresql import PostgreSQL
from tests.system.cluster.ray_nodes import command
from tests.system.cluster.roles import Roles, free_port
from tests.system.cluster.test_roles import LOOPBACK, entered, mirrored, start_node

pytestmark = [long_only, pytest.mark.cluster]


@pytest.fixture(scope="module")
def roles(postgresql: PostgreSQL) -> Iterator[Roles]:
    with Roles() as made:
        made.env |= LOOPBACK | {"CFM_DATABASE_URL": postgresql.database()}
        start_head(made)
        start_node(made)
        made.start("gateway", "gateway", "--port", "0").wait_ready()
        yield made


def start_head(roles: Roles) -> None:
    roles.start("head", CFM_RAY_PORT=str(free_port())).wait_ready()


@pytest.fixture
async def people(roles: Roles) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        gateways = [roles.machines["gateway"]]
        yield Node(roles.url, None, gateways, stack)  # type: ignore[arg-type]


def awake(roles: Roles) -> dict[str, tuple[int, int]]:
    """The rooms that are, each with its process and epoch."""
    done = roles.call("rooms", "--json", "--cluster", roles.url, CFM_VALKEY_URL="")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        each["name"]: (each["pid"], each["epoch"])
        for each in found
        if each["name"].startswith("room:")
    }


async def test_a_head_that_begins_elsewhere_is_followed_and_no_room_notices(
    roles: Roles, people: Node
) -> None:
    one = await entered(people)
    await one.say("before")
    before = awake(roles)
    pid = raylet(roles)
    roles.machines["head"].kill()
    await one.say("meanwhile")
    start_head(roles)
    # What is new needs the control store: it is reached where it is now.
    await (await entered(people, "music")).say("anew")
    await one.say("after")
    after = awake(roles)
    assert after["room:general"] == before["room:general"]
    assert set(after) == {*before, "room:music"}
    assert raylet(roles) == pid, "it did not begin again"


def raylet(roles: Roles) -> int:
    """The process id of the node's."""
    family = roles.machines["node"].family()
    (pid,) = [row.pid for row in family if "raylet/raylet " in command(row.pid)]
    return pid


async def test_a_node_leaves_in_order_while_the_control_store_is_away(
    roles: Roles, people: Node
) -> None:
    one = await entered(people)
    await one.say("before")
    with roles.admin() as client:
        client.delete(keys.mirror("room:general"))
    roles.machines["head"].kill()
    assert roles.machines["node"].end() == 0
    assert mirrored(roles)
    start_head(roles)
    start_node(roles)
    await (await entered(people)).say("after")


async def test_a_node_that_ray_is_told_to_drain_leaves_in_order_and_ends(
    roles: Roles, people: Node
) -> None:
    one = await entered(people)
    await one.say("before")
    with roles.admin() as client:
        client.delete(keys.mirror("room:general"))
    node = roles.machines["node"]
    done = drain(roles, roles.machines["head"].says.split()[-1])
    assert done.returncode == 0, done.stderr
    code = await asyncio.to_thread(node.popen.wait, 60)
    assert code == 0, node.errors.read_text()
    assert "Ray ends this node" in node.errors.read_text()
    assert mirrored(roles)


def drain(roles: Roles, head: str) -> subprocess.CompletedProcess[str]:
    """As Ray's autoscaler does, and whoever hears that a machine is taken away."""
    with roles.admin() as client:
        (node,) = client.hkeys(keys.NODES)
        secret = client.get(keys.CLUSTER_SECRET).decode()
    return subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *(f"--address={head}", f"--node-id={node.decode()}"),
            *("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away"),
            "--deadline-remaining-seconds=60",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=roles.env | token_env(secret),
    )
