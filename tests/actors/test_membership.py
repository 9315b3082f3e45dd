"""A node of a cluster: how it joins and leaves, and what it knows of the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import valkey
from msgspec.structs import replace

from actors import membership as module
from actors.membership import (
    STAYS_MS,
    STEADY_S,
    SUSPECT_S,
    Disagreement,
    Membership,
    Owned,
)
from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import KNOWN, Release, Running
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.gateway.node import eventually

AGREED = {"CFM_LOG_LENGTH": "10000"}
BLUE, GREEN = Holder("1", "blue"), Holder("2", "green")

Made = Callable[..., Membership]


@pytest.fixture
async def made(
    empty_valkey: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Made]:
    """Makes nodes; each has a connection of its own."""
    monkeypatch.setattr(module, "SAY_EVERY_S", 0.02)
    opened: list[Valkey] = []

    def make(
        node: str = "n1", owner: Holder = BLUE, agreed: Mapping[str, str] = AGREED
    ) -> Membership:
        opened.append(Valkey(empty_valkey))
        return Membership(Members(opened[-1]), owner, Node(node, "host"), agreed)

    yield make
    for each in opened:
        each.close()
    await asyncio.sleep(0)  # transports close in the loop's next turn


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Membership], "asyncio.Task[None]"]]:
    """Runs nodes until the test ends."""
    async with AsyncExitStack() as stack:

        def run(node: Membership) -> asyncio.Task[None]:
            task = asyncio.create_task(node.run())
            stack.callback(task.cancel)
            return task

        yield run


Run = Callable[[Membership], "asyncio.Task[None]"]


# Who may join.


async def test_nodes_of_one_cluster_know_each_other(made: Made, running: Run) -> None:
    one, two = made("n1"), made("n2", replace(BLUE, name="turquoise"))
    await one.join()
    await two.join()
    assert set(two.nodes) == {"n1", "n2"}
    running(one)
    await eventually(lambda: set(one.nodes) == {"n1", "n2"})
    assert one.node.since > 0 and one.nodes["n1"] == one.node


async def test_a_start_waits_for_the_lease_of_a_cluster_that_is_gone(
    made: Made, admin_valkey: valkey.Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    await made().join()
    second = made("n2", GREEN)
    joining = asyncio.create_task(second.join())
    await eventually(lambda: "this Valkey is blue's; waiting" in caplog.text)
    assert not joining.done()
    admin_valkey.delete(keys.OWNER)
    await patience.wait_for(joining, 5)
    assert second.owner == "green"
    assert caplog.text.count("waiting") == 1


async def test_a_cluster_that_is_there_is_not_joined_by_another_and_is_named(
    made: Made, admin_valkey: valkey.Valkey
) -> None:
    await made().join()
    with pytest.raises(Owned, match="used by the cluster of blue, .* --take-over"):
        await made("n2", GREEN).join(patience_s=0.0)
    assert set(admin_valkey.hkeys(keys.NODES)) == {b"n1"}


class HandOver:
    """What a cluster is asked for that takes over."""

    def __init__(self, *lacking: str) -> None:
        self.asked: list[str] = []
        self._knows = {name: () for name in lacking} | {"n1": KNOWN}

    async def running(self) -> Running:
        self.asked.append("running")
        return Running({n: Release("0", k) for n, k in self._knows.items()}, {})

    async def prepare(self, owner: str) -> None:
        self.asked.append(f"prepare for {owner}'s")

    async def hand_over(self) -> None:
        self.asked.append("hand over")

    async def begin(self, node: Membership, alone: bool = False) -> None:
        await node.take_over(self.running, self.prepare, self.hand_over, alone)


async def test_rooms_go_one_by_one_where_everybody_knows_how(
    made: Made, admin_valkey: valkey.Valkey
) -> None:
    blue, green, over = made(), made("n2", GREEN), HandOver()
    await blue.join()
    await over.begin(green)
    assert over.asked == ["running", "prepare for 1's", "hand over"]
    assert b"n2" in admin_valkey.hkeys(keys.NODES), "gateways find it before it joins"
    await green.join(patience_s=0.0)
    assert set(admin_valkey.hkeys(keys.NODES)) == {b"n1", b"n2"}


async def test_rooms_go_at_once_where_somebody_does_not_and_the_other_ends_first(
    made: Made,
    running: Run,
    admin_valkey: valkey.Valkey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blue, green, over = made(), made("n2", GREEN), HandOver("n0")
    await blue.join()
    ended = running(blue)
    taking = asyncio.create_task(over.begin(green))
    await patience.wait_for(ended, 5)
    assert not taking.done(), "its rooms are still going to sleep"
    await blue.gone(alone=False)
    await patience.wait_for(taking, 5)
    assert over.asked == ["running"]
    assert "blue's rooms come all at once: node n0 (0) cannot hand" in caplog.text
    assert blue.owner == "green"


async def test_nothing_is_taken_by_whoever_does_not_agree_with_those_who_are_there(
    made: Made,
) -> None:
    blue, over = made(), HandOver()
    await blue.join()
    other = {"CFM_LOG_LENGTH": "5"}
    with pytest.raises(Disagreement):
        await over.begin(made("n2", GREEN, other))
    assert over.asked == [] and await blue._lease.hold() == BLUE
    await over.begin(made("n2", GREEN, other), alone=True)
    assert await blue._lease.hold() == GREEN


async def test_there_is_nothing_to_take_over_where_nobody_is(made: Made) -> None:
    green, over = made("n2", GREEN), HandOver()
    await over.begin(green)
    await green.join(patience_s=0.0)
    await over.begin(green)  # what is its own already
    assert over.asked == []


async def test_a_node_of_a_cluster_that_it_took_over_is_none_of_its_own(
    made: Made,
) -> None:
    blue, green = made(), made("n2", GREEN)
    blue.node, green.node = (
        replace(each.node, cluster=owner.id)
        for each, owner in ((blue, BLUE), (green, GREEN))
    )
    await blue.join()
    await HandOver().begin(green)
    await green.join()
    assert set(green.nodes) == {"n2"}
    unsaid = made("n3", GREEN)  # of an older release
    await unsaid.join()
    await green.look()
    assert set(green.nodes) == {"n2", "n3"}


async def test_who_takes_over_has_it_and_the_other_ends(
    made: Made, running: Run, caplog: pytest.LogCaptureFixture
) -> None:
    blue, green = made(), made("n2", GREEN)
    await blue.join()
    ended = running(blue)
    await HandOver().begin(green)
    await green.join(patience_s=0.0)
    await patience.wait_for(ended, 5)
    assert blue.owner == green.owner == "green"
    assert "this Valkey was taken over by green" in caplog.text
    still = running(green)
    await blue.gone(alone=True)  # in order, which takes nothing from the other
    green.nodes = {}
    await eventually(lambda: set(green.nodes) == {"n2"})
    assert not still.done()


async def test_a_node_with_other_settings_is_refused_and_both_are_named(
    made: Made, admin_valkey: valkey.Valkey
) -> None:
    await made().join()
    with pytest.raises(
        Disagreement, match="CFM_LOG_LENGTH: '5' here, '10000' in the cluster"
    ):
        await made("n2", agreed={"CFM_LOG_LENGTH": "5"}).join()
    assert set(admin_valkey.hkeys(keys.NODES)) == {b"n1"}


async def test_who_is_alone_does_not_ask_what_its_own_last_life_had(made: Made) -> None:
    await made().join()
    await made("n2", agreed={"CFM_LOG_LENGTH": "5"}).join(alone=True)
    with pytest.raises(Disagreement):
        await made("n3").join()


async def test_what_is_agreed_is_kept_by_whoever_is_there(
    made: Made, running: Run, admin_valkey: valkey.Valkey
) -> None:
    node = made()
    await node.join()
    running(node)
    for key in (keys.AGREED, keys.OWNER, keys.NODES):
        admin_valkey.delete(key)
        await eventually(lambda key=key: bool(admin_valkey.exists(key)))


# Who is there.


async def test_a_node_that_leaves_is_seen_to_and_then_is_not_there(
    made: Made, running: Run, admin_valkey: valkey.Valkey
) -> None:
    one, two = made("n1"), made("n2")
    await one.join()
    await two.join()
    running(one)
    await eventually(lambda: set(one.nodes) == {"n1", "n2"})
    await two.leave()
    await eventually(lambda: one.nodes["n2"].state == "draining")
    await two.gone(alone=False)
    await eventually(lambda: set(one.nodes) == {"n1"})
    assert admin_valkey.exists(keys.OWNER)


async def test_the_last_one_leaves_nothing_to_wait_for_or_to_agree_with(
    made: Made,
) -> None:
    last = made()
    await last.join()
    await last.gone(alone=True)
    other = made("n2", GREEN, {"CFM_LOG_LENGTH": "5000"})
    await other.join(patience_s=2.0)
    assert other.owner == "green"


async def test_looking_anew_finds_who_has_come(made: Made) -> None:
    one, two = made("n1"), made("n2")
    await one.join()
    await two.join()
    assert set(one.nodes) == {"n1"}
    await one.look()
    assert set(one.nodes) == {"n1", "n2"}


async def test_a_suspect_is_one_for_a_while(made: Made) -> None:
    node = made()
    assert node.suspects == set()
    node.suspect("n2")
    patience.skip(SUSPECT_S / 2)
    node.suspect("n3")
    assert node.suspects == {"n2", "n3"}
    patience.skip(SUSPECT_S / 2)
    assert node.suspects == {"n3"}
    patience.skip(SUSPECT_S / 2)
    assert node.suspects == set()


async def test_a_node_is_steady_a_while_after_it_joined_and_after_each_pool(
    made: Made,
) -> None:
    node = made()
    assert not node.steady
    await node.join()
    for _ in range(2):
        assert not node.steady
        patience.skip(STEADY_S)
        assert node.steady
        node.moved()


async def test_cores_count_once_their_node_has_come_to_stay(
    made: Made, empty_valkey: str
) -> None:
    node = made()
    await node.join()
    assert node.cores == 0
    kv = Valkey(empty_valkey)
    members = Members(kv)
    now = await members.now()
    await members.say(Node("n2", "host", cores=4, since=now - STAYS_MS))
    await members.say(Node("n3", "host", cores=8, since=now - STAYS_MS + 30_000))
    await node.leave()  # which reads anew who is there, and when
    kv.close()
    assert node.cores == 4
