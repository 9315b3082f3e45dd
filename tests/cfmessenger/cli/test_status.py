"""`cfmessenger status`: what it makes of what machines say in Valkey."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import valkey

from actors.namespace_server import NamespaceServer
from cfmessenger.cli import status as module
from cfmessenger.cli.running import namespace_key
from cfmessenger.cli.status import Now
from cfmessenger.link.messages import VERSION
from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import HANDOVER, OURS
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.gateway.node import live
from tests.valkey_cluster import ValkeyCluster

NOBODY = "tcp://127.0.0.1:1"


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


async def now(url: str, folder: Path) -> Now:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "status", "--json"),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()}
        | {"CFM_CLUSTER": url},
    )
    async with patience.within(20):
        out, _ = await process.communicate()
    found = msgspec.json.decode(out, type=Now)
    assert process.returncode == bool(found.problems)
    return found


async def test_the_storage_of_a_cluster_is_that_of_every_server(
    valkey_cluster: ValkeyCluster,
) -> None:
    ill = valkey_cluster.primaries[2]
    ill.do("CONFIG", "SET", "appendonly", "no")
    kv = Valkey(valkey_cluster.url)
    try:
        found = await module._storage(kv)
    finally:
        kv.close()
        ill.do("CONFIG", "SET", "appendonly", "yes")
    assert (found["shards"], found["role"], found["replicas"]) == ("3", "master", "0")
    assert sorted(found["append_only"].split(", ")) == ["no", "yes"]
    assert "appendonly no" in str(module._problems({}, None, {}, found))


async def test_rooms_are_counted_by_node_and_gateways_are_named(
    kv: Valkey, empty_valkey: str, tmp_path: Path
) -> None:
    members = Members(kv)
    async with live(empty_valkey, alone=True) as node:
        key = namespace_key(await members.secret())
        server = NamespaceServer(node.namespace, "tcp://127.0.0.1:0", key)
        await server.start()
        assert server._server is not None
        port = server._server.port
        since = await members.now() - 5000
        at = f"tcp://127.0.0.1:{port}"
        await members.say(Node("", "one", at, cores=2, since=since, link=VERSION))
        await members.say(Node("n2", "two", NOBODY, "draining", since=since))
        await members.owner(Holder("1", "blue")).hold()
        await members.head(Holder("1", "headed", "10.0.0.1:1")).hold()
        for room in ("general", "quiet"):
            await node.enter("user_1", room)
        found = await now(empty_valkey, tmp_path)
        await server.close()
    assert (found.owner, found.head) == ("blue", "headed 10.0.0.1:1")
    assert found.problems == []
    # A namespace in this process does not say on which node: that is node "" here.
    one, two = found.nodes
    assert (one.host, one.rooms, one.state, one.cores) == ("one", 2, "up", 2)
    assert (two.host, two.rooms, two.state) == ("two", 0, "draining")
    assert one.for_ms >= 5000
    assert found.rooms == 2
    assert list(found.gateways.values()) == [""]
    assert found.capabilities == {
        HANDOVER: ["node  (an older release)", "node n2 (an older release)"]
    }
    assert [each.release for each in found.nodes] == ["", ""]
    assert found.storage["role"] == "master"
    assert found.storage["append_only"] == "yes"


async def test_what_is_wrong_is_said_and_the_rest_is_shown(
    kv: Valkey, empty_valkey: str, admin_valkey: valkey.Valkey, tmp_path: Path
) -> None:
    members = Members(kv)
    at = await members.now()
    await members.say(Node("n1", "one", NOBODY, "draining", since=at))
    admin_valkey.zadd(keys.GATEWAYS, {"g1": at, "g2": at - 60_000})
    admin_valkey.hset(keys.LACKING, "g1", "ray")
    found = await now(empty_valkey, tmp_path)
    assert [each.host for each in found.nodes] == ["one"]
    assert (found.owner, found.head, found.placement) == ("", "", "unknown")
    assert found.gateways == {"g1": "lacks ray", "g2": "silent for 1 min"}
    first, *others = found.problems
    assert first.startswith("no namespace server answers: ")
    assert others == [
        "gateway g2: silent for 1 min",
        "gateway g1: lacks ray",
        "no node takes rooms",
        "no head: no room can get an actor of its own, nor a node join",
    ]


async def test_a_node_of_no_release_that_is_spoken_here_is_named() -> None:
    storage = {"append_only": "yes", "used": "1%"}
    for link, well in ((4, False), (5, True), (VERSION, True), (VERSION + 2, False)):
        nodes = {"n1": Node("n1", "one", link=link)}
        told = (
            f"node one speaks version {link} of the link, versions 5 to {VERSION} are "
            "spoken here"
        )
        problems = module._problems(nodes, None, {}, storage)
        assert problems == ([] if well else [told])


async def test_a_capability_is_on_once_all_know_it(
    kv: Valkey, empty_valkey: str, tmp_path: Path
) -> None:
    """That somebody does not yet is no fault: releases run beside each other."""
    members, ours = Members(kv), Node("n1", "one", release="9.9", knows=OURS.knows)
    await members.say(ours)
    await members.say(Node("n2", "two"))
    async with live(empty_valkey, alone=True):
        found = await now(empty_valkey, tmp_path)
        assert found.capabilities == {HANDOVER: ["node n2 (an older release)"]}
        assert not any(HANDOVER in each for each in found.problems)
        await members.withdraw("n2")
        found = await now(empty_valkey, tmp_path)
    assert found.capabilities == {HANDOVER: []}
    assert [each.release for each in found.nodes] == ["9.9"]


async def test_a_messenger_on_one_machine_needs_no_head() -> None:
    storage = {"append_only": "yes", "used": "79%"}
    alone = {"n1": Node("n1", "one")}
    assert module._problems(alone, None, {}, storage) == []
    bad = {"append_only": "no", "used": "80%"}
    assert module._problems(alone, None, {}, bad) == [
        "80 % of Valkey's memory is used: at 95% no message is taken",
        "Valkey keeps nothing on disk (appendonly no)",
    ]


def test_people_see_a_table_and_what_is_wrong_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = module.NodeNow("a" * 56, "one", "tcp://h:1", "up", 3, 2, 4, 61_000)
    module._show(
        Now("blue", "", [node], {"g1": ""}, "auto", 3, {"role": "master"}, ["it burns"])
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["owner", "blue"]
    assert lines[1].split() == ["head", "none"]
    assert any(
        line.split()[:4] == ["aaaaaaaa", "one", "tcp://h:1", "up"] for line in lines
    )
    assert lines[-2:] == ["gateway g1  up", "! it burns"]
