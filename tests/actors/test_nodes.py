"""Where a new actor is made: only where it may be, and where least is."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from actors.location import LABEL, Location, Nowhere
from actors.membership import STEADY_S, SUSPECT_S, Membership
from actors.nodes import Nodes
from actors.ray_driver import Cluster
from cfmessenger.errors import Unavailable
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.actors.scene import fresh_room


def id_of(name: str) -> str:
    """As Ray's are: 28 bytes."""
    return name.encode().hex().ljust(56, "0")


def name_of(node: str) -> str:
    return bytes.fromhex(node).rstrip(b"\0").decode()


def cluster(where: dict[str, str] | None = None, **labels: str | None) -> Cluster:
    """What Ray says: living nodes with their labels, and where each actor is."""
    found = {actor: id_of(node) for actor, node in (where or {}).items()}
    nodes = [
        {"NodeID": id_of(node), "Labels": {} if label is None else {LABEL: label}}
        for node, label in labels.items()
    ]
    return Cluster(nodes, list(found), found)


@pytest.fixture
async def member(empty_valkey: str) -> AsyncIterator[Membership]:
    """A node that knows those that a test tells it of."""
    kv = Valkey(empty_valkey)
    yield Membership(Members(kv), Holder("1", "blue"), Node("n1", "host"), {})
    kv.close()


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    opened = ValkeyLog(valkey_url, 1000)
    yield opened
    opened.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


def there(member: Membership, **states: str) -> None:
    member.nodes = {
        id_of(name): Node(id_of(name), "host", state=state)  # type: ignore[arg-type]
        for name, state in states.items()
    }


async def chosen(nodes: Nodes, seen: Cluster, times: int = 12) -> set[str]:
    """Where rooms go that are made one after another."""
    found = set()
    for _ in range(times):
        node, options = await nodes.place(fresh_room(), None, seen)
        strategy = options["scheduling_strategy"]
        assert (strategy.node_id, strategy.soft) == (node, False)
        found.add(name_of(node))
    return found


async def test_a_node_that_leaves_is_suspect_or_no_member_gets_nothing(
    member: Membership,
) -> None:
    there(member, n1="up", n2="up", n3="draining", n4="up", n5="up")
    nodes = Nodes(None, member)
    nodes.failed(id_of("n2"))
    seen = cluster(n1=None, n2=None, n3=None, n4=None, head=None)
    # n5 has not come to Ray, `head` says nothing to the cluster.
    assert await chosen(nodes, seen) == {"n1", "n4"}
    patience.skip(SUSPECT_S)
    assert await chosen(nodes, seen) == {"n1", "n2", "n4"}


async def test_where_all_are_suspects_they_are_better_than_none(
    member: Membership,
) -> None:
    there(member, n1="up", n2="up", n3="draining")
    nodes = Nodes(None, member)
    for suspect in ("n1", "n2"):
        nodes.failed(id_of(suspect))
    assert await chosen(nodes, cluster(n1=None, n2=None, n3=None)) == {"n1", "n2"}


async def test_where_all_leave_there_is_no_room_for_one_more(
    member: Membership,
) -> None:
    there(member, n1="draining")
    with pytest.raises(Unavailable, match="No node takes new rooms right now"):
        await Nodes(None, member).place(fresh_room(), None, cluster(n1=None))


async def test_outside_a_cluster_every_node_of_rays_will_do() -> None:
    nodes = Nodes(None, None)
    assert await chosen(nodes, cluster(n1=None, n2="us")) == {"n1", "n2"}
    nodes.failed(id_of("n1"))
    assert not nodes.left(id_of("n1"))


async def test_what_ray_does_not_show_yet_counts() -> None:
    nodes, seen = Nodes(None, None), cluster({"room:a": "n1"}, n1=None, n2=None)
    names = [fresh_room() for _ in range(5)]
    named = seen._replace(names=["room:a", *names])
    went = [name_of((await nodes.place(name, None, named))[0]) for name in names]
    assert went[0] == "n2" and went.count("n2") == 3
    # So does who knows where an actor waits, if that node is gone.
    assert nodes.chosen(names[0]) == id_of("n2") and nodes.chosen("room:a") is None
    # And is forgotten once it is not there any more.
    assert await chosen(nodes, seen, 5) == {"n2"}


async def test_a_location_is_a_preference_among_those_that_may(
    member: Membership, log: ValkeyLog
) -> None:
    there(member, n1="up", n2="up", n3="draining")
    seen = cluster(n1="uk", n2="us", n3="us")
    nodes = Nodes(Location(log, "us", strict=False), member)
    assert not nodes.strict
    assert await chosen(nodes, seen, 4) == {"n2"}
    node, _ = await nodes.place(fresh_room(), "uk", seen)
    assert name_of(node) == "n1"
    there(member, n1="up", n2="draining", n3="draining")
    assert await chosen(nodes, seen, 4) == {"n1"}


async def test_where_it_is_wanted_counts_more_than_who_has_just_come(
    member: Membership, log: ValkeyLog
) -> None:
    there(member, n1="up", n2="up", n3="up")
    for known in ("n1", "n2"):
        node = member.nodes[id_of(known)]
        member.nodes[id_of(known)] = replace(node, since=-int(STEADY_S * 1000))
    seen = cluster(n1="uk", n2="us", n3="mars")
    for hint, nodes in (("us", {"n2"}), ("mars", {"n3"}), ("venus", {"n1", "n2"})):
        for strict in (False, True):
            if hint != "venus" or not strict:
                location = Location(log, hint, strict=strict)
                assert await chosen(Nodes(location, member), seen, 20) == nodes


async def test_strict_is_nowhere_rather_than_where_nodes_leave(
    member: Membership, log: ValkeyLog
) -> None:
    seen = cluster(n1="uk", n2="us")
    nodes = Nodes(Location(log, "us", strict=True), member)
    assert nodes.strict
    there(member, n1="up", n2="up")
    assert await chosen(nodes, seen, 4) == {"n2"}
    there(member, n1="up", n2="draining")
    with pytest.raises(Nowhere):
        await nodes.place(fresh_room(), None, seen)


async def test_a_node_that_is_silent_has_left_if_others_are_there(
    member: Membership,
) -> None:
    nodes = Nodes(None, member)
    assert not nodes.left(id_of("n2")), "who knows nobody says nothing"
    there(member, n1="up", n3="draining")
    assert nodes.left(id_of("n2"))
    assert not nodes.left(id_of("n1")) and not nodes.left(id_of("n3"))
