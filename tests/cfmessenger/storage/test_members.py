"""The cluster as its machines tell each other of it: leases, nodes, what is agreed."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import valkey
from msgspec.structs import replace

from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.members import (
    LEASE_MS,
    NODE_S,
    Finder,
    Holder,
    Lease,
    Members,
    Node,
    differences,
)
from cfmessenger.storage.valkey import Valkey

BLUE, GREEN = Holder("1", "blue"), Holder("2", "green")


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


@pytest.fixture
def members(kv: Valkey) -> Members:
    return Members(kv)


@pytest.fixture
def leases(members: Members) -> tuple[Lease, Lease]:
    return members.owner(BLUE), members.owner(GREEN)


def void(admin: valkey.Valkey, key: str = keys.OWNER) -> None:
    """As if nobody had renewed it for long."""
    admin.delete(key)


# A lease.


async def test_one_of_two_has_the_lease_and_both_know_who(
    leases: tuple[Lease, Lease],
) -> None:
    blue, green = leases
    assert await blue.read() is None
    assert await blue.hold() == BLUE
    assert await green.hold() == BLUE
    assert await blue.hold() == BLUE
    assert await green.read() == BLUE


async def test_a_lease_ends_by_itself_unless_it_is_renewed_by_its_holder(
    leases: tuple[Lease, Lease], admin_valkey: valkey.Valkey
) -> None:
    blue, green = leases
    await blue.hold()
    assert LEASE_MS // 2 < admin_valkey.pttl(keys.OWNER) <= LEASE_MS
    admin_valkey.pexpire(keys.OWNER, 3000)
    await green.hold()
    assert admin_valkey.pttl(keys.OWNER) <= 3000, "another's word renews nothing"
    await blue.hold()
    assert admin_valkey.pttl(keys.OWNER) > 3000
    void(admin_valkey)
    assert await green.hold() == GREEN
    assert await blue.hold() == GREEN


async def test_a_lease_that_was_taken_over_is_lost_at_the_next_word(
    leases: tuple[Lease, Lease], admin_valkey: valkey.Valkey
) -> None:
    blue, green = leases
    await blue.hold()
    await green.take()
    assert await blue.hold() == GREEN
    assert await green.hold() == GREEN
    assert LEASE_MS // 2 < admin_valkey.pttl(keys.OWNER) <= LEASE_MS


async def test_those_with_one_id_hold_it_together(members: Members) -> None:
    one, two = (members.owner(Holder("c", name)) for name in ("one", "two"))
    assert (await one.hold()).name == "one"
    assert (await two.hold()).id == "c"
    assert (await one.hold()).name == "two", "the last who said so is named"


async def test_nobody_waits_for_a_lease_that_was_released(
    leases: tuple[Lease, Lease],
) -> None:
    blue, green = leases
    await blue.hold()
    await green.release()
    assert await blue.read() == BLUE, "only one's own"
    await blue.release()
    while await green.read() is not None:  # it ends in a millisecond of Valkey's
        pass
    assert await green.hold() == GREEN


async def test_the_leases_are_of_different_things(members: Members) -> None:
    leases = [members.owner(Holder("owner", "")), members.head(Holder("head", ""))]
    assert [(await each.hold()).id for each in leases] == ["owner", "head"]


# Nodes.


async def test_nodes_are_there_until_they_withdraw(members: Members) -> None:
    one = Node("n1", "one", "tcp://10.0.0.1:6390", cores=4, since=17)
    two = Node("n2", "two", state="draining")
    assert await members.nodes() == {}
    await members.say(one)
    await members.say(two)
    assert await members.nodes() == {"n1": one, "n2": two}
    await members.say(replace(two, state="up"))
    await members.withdraw("n1")
    assert await members.nodes() == {"n2": replace(two, state="up")}
    await members.withdraw("n1")  # twice is once


async def test_a_node_that_says_nothing_is_not_there_any_more(
    members: Members, admin_valkey: valkey.Valkey
) -> None:
    for name in ("n1", "n2"):
        await members.say(Node(name, "host"))
    left = admin_valkey.execute_command(*("HPTTL", keys.NODES, "FIELDS", 2, "n1", "n2"))
    assert all(NODE_S * 500 < each <= NODE_S * 1000 for each in left)
    admin_valkey.execute_command("HPEXPIRE", keys.NODES, 1, "FIELDS", 1, "n1")
    while "n1" in (found := await members.nodes()):  # in a millisecond of Valkey's
        pass
    assert found == {"n2": Node("n2", "host")}


async def test_the_clock_is_valkeys(
    members: Members, admin_valkey: valkey.Valkey
) -> None:
    seconds, _ = admin_valkey.time()
    assert seconds * 1000 <= await members.now() <= seconds * 1000 + 60_000


# What is agreed.


async def test_the_first_decides_what_all_have_and_it_is_kept(
    members: Members, admin_valkey: valkey.Valkey
) -> None:
    first, other = {"CFM_A": "1", "CFM_B": "2"}, {"CFM_A": "1", "CFM_B": "3"}
    assert await members.agree(other, keep=False) == other, "looking decides nothing"
    assert await members.agree(first, keep=True) == first
    assert await members.agree(other, keep=True) == first
    assert await members.agree(other, keep=False) == first
    # The order in which they are told means nothing.
    admin_valkey.pexpire(keys.AGREED, 3000)
    await members.agree(dict(reversed(first.items())), keep=True)
    assert 3000 < admin_valkey.pttl(keys.AGREED) <= LEASE_MS
    admin_valkey.pexpire(keys.AGREED, 3000)
    await members.agree(other, keep=True)
    await members.agree(first, keep=False)
    assert admin_valkey.pttl(keys.AGREED) <= 3000, "who has others keeps nothing"
    void(admin_valkey, keys.AGREED)
    assert await members.agree(other, keep=True) == other, (
        "nobody keeps them: forgotten"
    )


def test_a_difference_names_both_values() -> None:
    agreed = {"CFM_A": "1", "CFM_B": "2", "CFM_C": "3"}
    assert differences(agreed, agreed) == []
    assert differences({"CFM_B": "5", "CFM_A": "1", "CFM_D": "0"}, agreed) == [
        "CFM_B: '5' here, '2' in the cluster",
        "CFM_C: 'unknown' here, '3' in the cluster",
    ]


async def test_all_have_the_secret_of_the_first_who_asked(
    members: Members, empty_valkey: str
) -> None:
    kv = Valkey(empty_valkey)
    found = await asyncio.gather(members.secret(), Members(kv).secret())
    kv.close()
    assert found[0] == found[1] == await members.secret()
    assert len(bytes.fromhex(found[0])) == 32


async def test_a_valkey_that_is_away_is_said_to_be() -> None:
    kv = Valkey("unix:///nonexistent.sock")
    members = Members(kv)
    for asked in (members.nodes(), members.secret(), members.owner(BLUE).hold()):
        with pytest.raises(Unavailable):
            await asked
    kv.close()


async def test_nodes_of_another_release_hide_nobody(
    members: Members, admin_valkey: valkey.Valkey
) -> None:
    """What one says that is unknown here is passed over, and whoever cannot be read."""
    await members.say(Node("n1", "one"))
    for node, said in {
        "n2": b'{"id":"n2","host":"two","state":"resting","zone":{"a":1}}',
        "n3": b'{"id":3}',
        "n4": b"\xff",
    }.items():
        admin_valkey.hset(keys.NODES, node, said)
    found = await members.nodes()
    assert set(found) == {"n1", "n2"}
    assert (found["n2"].state, found["n2"].knows) == ("resting", ())


# Who looks for a namespace server.


class Told(Members):
    """What Valkey says, as the test does; None: it is away."""

    def __init__(self, nodes: list[Node] | None, owner: str = "") -> None:
        self.found = nodes
        self.owner_id = owner

    async def owned_by(self) -> str:
        return self.owner_id

    async def nodes(self) -> dict[str, Node]:
        if self.found is None:
            raise Unavailable
        return {each.id: each for each in self.found}


def at(host: str, state: str = "up") -> Node:
    return Node(host, host, f"tcp://{host}:6390", state)


async def test_this_machines_server_is_asked_first_and_those_that_leave_last() -> None:
    random.seed(1)
    nodes = [at("leaves", "draining"), at("far"), at("near"), at("other")]
    orders = {
        tuple(await Finder(Told([*nodes, Node("deaf", "deaf")]), "near").find())
        for _ in range(50)
    }
    near, far, other, leaves = (
        f"tcp://{host}:6390#5" for host in ("near", "far", "other", "leaves")
    )
    # And not all gateways ask the same one of the others.
    assert orders == {(near, far, other, leaves), (near, other, far, leaves)}


async def test_those_of_the_owner_are_asked_before_a_cluster_that_it_took_over() -> (
    None
):
    blue = replace(at("blue"), cluster="1")
    green = replace(at("green"), cluster="2")
    unsaid = at("unsaid", "draining")  # by an older release
    for owner, first, last in (("1", "blue", "green"), ("2", "green", "blue")):
        found = await Finder(Told([green, blue, unsaid], owner), "blue").find()
        assert found == [f"tcp://{each}:6390#5" for each in (first, "unsaid", last)]


async def test_what_was_known_is_asked_while_valkey_is_away_or_knows_nobody() -> None:
    told = Told(None)
    finder = Finder(told)
    with pytest.raises(Unavailable):
        await finder.find()
    told.found = [at("one")]
    assert await finder.find() == ["tcp://one:6390#5"]
    for nothing in (None, []):
        told.found = nothing
        assert await finder.find() == ["tcp://one:6390#5"]
    told.found = [at("two")]
    assert await finder.find() == ["tcp://two:6390#5"]


async def test_an_address_of_ipv6_is_this_machines_too() -> None:
    nodes = [Node(str(n), "h", f"tcp://[fd00::{n}]:6390") for n in range(1, 9)]
    for _ in range(5):
        first, *_ = await Finder(Told(nodes), "fd00::8").find()
        assert first == "tcp://[fd00::8]:6390#5"
