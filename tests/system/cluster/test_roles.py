"""`head`, `node` and `gateway` as processes: they find each other, and leave in order.

One cluster for the module, whose tests go in order: its node leaves and comes again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from cfmessenger.cli import process
from cfmessenger.storage import keys
from tests import patience
from tests.effort import long_only
from tests.gateway.node import Node, Refused, Socket, error_of
from tests.postgresql import PostgreSQL
from tests.system.cluster.roles import Machine, Roles, free_port

pytestmark = [long_only, pytest.mark.cluster]

LOOPBACK = {"CFM_NODE_ADDRESS": "127.0.0.1"}


@pytest.fixture(scope="module")
def roles(postgresql: PostgreSQL) -> Iterator[Roles]:
    with Roles() as made:
        made.env |= LOOPBACK | {"CFM_DATABASE_URL": postgresql.database()}
        made.start("head", CFM_RAY_PORT=str(free_port()))
        made.machines["head"].wait_ready()
        start_node(made)
        made.start("gateway", "gateway", "--port", "0").wait_ready()
        yield made


def start_node(roles: Roles) -> Machine:
    return roles.start("node", CFM_NAMESPACE_PORT=str(free_port())).wait_ready()


@pytest.fixture
async def people(roles: Roles) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        gateways = [roles.machines["gateway"]]
        yield Node(roles.url, None, gateways, stack)  # type: ignore[arg-type]


async def entered(people: Node, room: str = "general") -> Socket:
    """As a client comes, which tries again while no room can wake."""
    async with patience.within(30.0):
        while True:
            try:
                return await people.enter("user_1", room)
            except Refused as refused:
                assert error_of(refused) == (503, "UNAVAILABLE")
            await asyncio.sleep(0.2)


def status(roles: Roles) -> dict[str, object]:
    done = roles.call("status", "--json", "--cluster", roles.url)
    found: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == bool(found["problems"])
    return found


def rooms(roles: Roles) -> list[dict[str, object]]:
    done = roles.call("rooms", "--json", "--cluster", roles.url, CFM_VALKEY_URL="")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [each for each in found if each["name"] == "room:general"]


def mirrored(roles: Roles) -> bool:
    """The room went to sleep in order."""
    with roles.admin() as client:
        return any(
            b"final" in fields
            for _, fields in client.xrange(keys.mirror("room:general"))
        )


async def test_each_says_that_it_is_ready_and_a_message_passes(
    roles: Roles, people: Node
) -> None:
    head, node, gateway = (roles.machines[each] for each in ("head", "node", "gateway"))
    assert head.says.startswith("The head is ready at ")
    assert node.says.startswith("The node is ready at tcp://127.0.0.1:")
    assert gateway.says.startswith("CF Messenger is ready at http://")
    one, two = [await people.enter(user, "general") for user in ("user_1", "user_2")]
    await one.say("hello")
    await two.wait("chat", content="hello")


def test_rooms_live_on_the_node_and_none_on_the_head(roles: Roles) -> None:
    (room,) = rooms(roles)
    node, head = roles.machines["node"], roles.machines["head"]
    assert room["pid"] in {each.pid for each in node.family()}
    assert room["pid"] not in {each.pid for each in head.family()}


def test_status_tells_of_all_from_anywhere(roles: Roles) -> None:
    found = status(roles)
    assert found["problems"] == []
    (node,) = found["nodes"]  # type: ignore[misc]
    assert node["address"] == roles.machines["node"].says.split()[-1]
    assert node["state"] == "up" and node["rooms"] >= 1
    assert list(found["gateways"].values()) == [""]  # type: ignore[attr-defined]
    assert found["head"] and found["owner"] and found["rooms"] >= 1  # type: ignore[operator]


def test_doctor_finds_nothing_bad(roles: Roles) -> None:
    done = roles.call("doctor", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in findings if each["verdict"] == "bad"] == []
    assert done.returncode == 0
    good = [each["what"].split()[0] for each in findings if each["verdict"] == "ok"]
    assert {"head", "node", "settings", "clock", "cluster"} <= set(good)
    assert {"Valkey", "CFM_DATABASE_URL"} <= set(good)


def test_doctor_names_a_setting_that_differs(roles: Roles) -> None:
    done = roles.call("doctor", CFM_LOG_LENGTH="5000")
    said = "BAD   settings: CFM_LOG_LENGTH: '5000' here, '10000' in the cluster\n"
    assert said in done.stdout and done.returncode == 1


def test_a_node_with_other_settings_is_refused(roles: Roles) -> None:
    port = {"CFM_NAMESPACE_PORT": str(free_port())}
    done = roles.call("node", CFM_LOG_LENGTH="5000", **port)
    assert done.returncode == 3
    assert "CFM_LOG_LENGTH: '5000' here, '10000' in the cluster" in done.stderr


def test_a_gateway_with_a_database_of_its_own_is_refused(roles: Roles) -> None:
    done = roles.call("gateway", "--port", "0", CFM_DATABASE_URL="")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "cfmessenger: CFM_DATABASE_URL: a cluster needs PostgreSQL; with SQLite each "
        "machine would have users and orders of its own\n"
    )


def test_a_second_head_is_refused_with_the_first_ones_name(roles: Roles) -> None:
    done = roles.call("head", CFM_RAY_PORT=str(free_port()))
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert said.startswith("cfmessenger: the cluster has a head: ")
    assert " at 127.0.0.1:" in said


async def test_a_node_that_is_drained_has_given_up_its_rooms_and_takes_none(
    roles: Roles, people: Node
) -> None:
    assert not mirrored(roles)
    data = {"CFM_DATA_DIR": str(roles.machines["node"].data)}
    done = roles.call("drain", **data)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "This node is empty and takes no new rooms.\n"
    assert mirrored(roles)
    found = status(roles)
    assert found["rooms"] == 0 and found["problems"] == ["no node takes rooms"]
    with pytest.raises(Refused) as refused:
        await people.connect("user_1", "/api/ws/room/general")
    assert error_of(refused.value) == (503, "UNAVAILABLE")


async def test_a_node_that_is_ended_leaves_in_order_and_its_rooms_go_on(
    roles: Roles, people: Node
) -> None:
    assert roles.machines["node"].end() == 0
    assert status(roles)["nodes"] == []
    start_node(roles)
    one = await entered(people)
    await one.say("again")
    (room,) = rooms(roles)
    with roles.admin() as client:
        assert room["seq"] == client.xlen(keys.log("room:general")) > 0
        client.delete(keys.mirror("room:general"))
    assert roles.machines["node"].end() == 0
    assert mirrored(roles)
    start_node(roles)


def test_another_messenger_is_refused_with_the_owners_name(roles: Roles) -> None:
    done = roles.call("up", "--port", "0")
    assert (done.returncode, done.stdout) == (3, "")
    said = done.stderr.splitlines()[-1]
    assert "this Valkey is used by the cluster of " in said
    assert "--take-over" in said


async def test_one_that_takes_over_starts_and_the_first_ends(roles: Roles) -> None:
    before = roles.machines["node"]
    room = rooms(roles)
    up = roles.start("up", "up", "--port", "0", "--take-over").wait_ready()
    async with AsyncExitStack() as stack:
        people = Node(roles.url, None, [up], stack)  # type: ignore[arg-type]
        one = await people.enter("user_1", "general")
        await one.say("here now")
    assert before.popen.wait(30) == 1
    said = before.errors.read_text()
    assert "this Valkey was taken over by " in said
    assert said.endswith("cfmessenger: another cluster uses this Valkey now\n")
    assert all(process.entry(each["pid"]) is None for each in room)  # type: ignore[arg-type]
    assert up.end() == 0
