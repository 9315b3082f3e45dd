"""What a machine finds in Valkey of its cluster, and what it is refused for."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import valkey

from cfmessenger.cli import joined as module
from cfmessenger.cli.joined import Joined, alone_or_shared, join, reaching
from cfmessenger.cli.running import namespace_key
from cfmessenger.cli.runtime import Refused
from cfmessenger.settings import Settings, SettingsError
from cfmessenger.storage import keys
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.cfmessenger.cli.test_relay import Line, says
from tests.gateway.node import eventually

Made = Callable[..., Joined]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.02)


@pytest.fixture
async def members(empty_valkey: str) -> AsyncIterator[Members]:
    kv = Valkey(empty_valkey)
    yield Members(kv)
    kv.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


@pytest.fixture
def machine(members: Members, empty_valkey: str) -> Made:
    """A machine with this address, and settings of its own."""

    def made(address: str = "10.0.0.1", **env: str) -> Joined:
        settings = Settings.load({"CFM_VALKEY_URL": empty_valkey, **env})
        return Joined(settings, members, address, "the secret")

    return made


# What a part needs.


@pytest.mark.parametrize("part", ["head", "node", None])
async def test_a_cluster_needs_a_valkey_that_all_reach(part: str | None) -> None:
    with pytest.raises(SettingsError, match="CFM_VALKEY_URL: a cluster needs a Valkey"):
        await join(Settings.load({}), part)  # type: ignore[arg-type]


async def test_a_second_messenger_on_one_ray_needs_a_database_that_both_see(
    members: Members, empty_valkey: str
) -> None:
    env = {"CFM_VALKEY_URL": empty_valkey, "CFM_RAY_ADDRESS": "10.0.0.5:6379"}
    await members.say(Node("a", socket.gethostname()))
    await alone_or_shared(Settings.load(env))
    await members.say(Node("b", "elsewhere.example"))
    with pytest.raises(SettingsError, match=r"elsewhere\.example is there too"):
        await alone_or_shared(Settings.load(env))
    shared = {"CFM_DATABASE_URL": "postgresql://h/x"}
    await alone_or_shared(Settings.load(env | shared))


@pytest.mark.parametrize("url", ["", "sqlite:////tmp/x.sqlite3"])
async def test_a_gateway_with_a_database_of_its_own_is_refused(url: str) -> None:
    env = {"CFM_VALKEY_URL": "valkey://h", "CFM_DATABASE_URL": url}
    with pytest.raises(
        SettingsError, match="CFM_DATABASE_URL: a cluster needs PostgreSQL; with SQLite"
    ):
        await join(Settings.load(env), None)


async def test_a_gateway_finds_the_nodes_in_valkey_with_the_key_that_they_ask_for(
    members: Members, empty_valkey: str
) -> None:
    env = {"CFM_VALKEY_URL": empty_valkey, "CFM_DATABASE_URL": "postgresql://h/db"}
    gateway = await join(Settings.load(env), None)
    key = namespace_key(await members.secret())
    assert gateway.env["CFMX_NAMESPACE"] == "cluster"
    assert gateway.env["CFMX_NAMESPACE_KEY"] == key
    assert gateway.place is None
    # It is made of the secret, and does not give it away.
    assert await members.secret() not in str(gateway.env)
    gateway._members._kv.close()


def test_a_machines_address_is_the_one_on_the_way_to_valkey() -> None:
    assert reaching("valkey://127.0.0.1:1") == "127.0.0.1"
    assert reaching("unix:///tmp/valkey.sock") == "127.0.0.1"
    assert reaching("valkey-cluster://u:p@127.0.0.1:1,h:2") == "127.0.0.1"
    with pytest.raises(Refused, match="CFM_NODE_ADDRESS: no way to nowhere.invalid"):
        reaching("valkey://nowhere.invalid")


async def test_where_it_is_reached_is_told_to_its_processes(machine: Made) -> None:
    env = machine("fd00::1", CFM_NAMESPACE_PORT="7000").env
    assert env["CFMX_NAMESPACE_TCP"] == "tcp://[fd00::1]:7000"
    assert env["CFMX_NODE_ADDRESS"] == "fd00::1"


# The head.


async def test_a_second_head_is_refused_with_the_name_of_the_first(
    machine: Made, members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = machine("10.0.0.1", CFM_RAY_PORT="7001"), machine("10.0.0.2")
    await first.be_head()
    host = socket.gethostname()
    with pytest.raises(
        Refused, match=f"^the cluster has a head: {host} at 10.0.0.1:7001$"
    ):
        await second.be_head(patience_s=0.0)
    waiting = asyncio.create_task(second.be_head())
    caplog.set_level("INFO")
    await eventually(lambda: "waiting for the head at 10.0.0.1:7001" in caplog.text)
    await first.leave()
    await patience.wait_for(waiting, 5)
    found = await members.head(Holder("", "")).read()
    assert found is not None and found.address == "10.0.0.2:6380"


async def test_a_head_says_where_it_is_for_as_long_as_it_runs_and_no_longer(
    machine: Made, members: Members, admin_valkey: valkey.Valkey
) -> None:
    head = machine("fd00::1")
    await head.be_head()
    keeping = asyncio.create_task(head.keep())
    admin_valkey.delete(keys.head())
    await eventually(lambda: bool(admin_valkey.exists(keys.head())))
    found = await members.head(Holder("", "")).read()
    assert found is not None and found.address == "[fd00::1]:6380"
    await members.head(Holder("2", "other", "10.0.0.9:1")).take()
    with pytest.raises(Refused, match="other at 10.0.0.9:1 is the head now"):
        await patience.wait_for(keeping, 5)
    await head.leave()
    assert admin_valkey.exists(keys.head()), "it is another's"


@pytest.mark.parametrize(
    ("url", "store", "kept"),
    [
        ("valkey://u:pw@h:1", None, "valkey://u:pw@h:1"),
        ("valkey://h:1", "valkey://other:2", "valkey://other:2"),
        ("valkey://h:1", "none", None),
        ("unix:///tmp/v.sock", None, None),
        ("valkey-cluster://h:1,g:2", None, None),
        ("valkey-cluster://h:1,g:2", "valkey://other:2", "valkey://other:2"),
    ],
)
async def test_what_ray_knows_is_kept_where_it_can_be(
    members: Members, url: str, store: str | None, kept: str | None
) -> None:
    env = {"CFM_VALKEY_URL": url} | ({"CFM_RAY_STORE_URL": store} if store else {})
    head = Joined(Settings.load(env), members, "10.0.0.1", "secret")
    await head.be_head()
    assert head.place is not None and head.place.store == kept
    assert head.place.head is None and head.place.port == 6380


# A node.


async def test_a_node_waits_for_a_head_and_says_what_is_missing(
    machine: Made, caplog: pytest.LogCaptureFixture
) -> None:
    node, head = machine("10.0.0.2"), machine("10.0.0.1")
    with pytest.raises(Refused, match="no head: start one, `cfmessenger head`"):
        await node.be_node(patience_s=0.0)
    caplog.set_level("INFO")
    waiting = asyncio.create_task(node.be_node())
    await eventually(lambda: "waiting for a head" in caplog.text)
    await head.be_head()
    await patience.wait_for(waiting, 5)
    assert node.place is not None and node._head is not None
    # Ray knows the relay alone, which nobody else reaches.
    assert node.place.head is not None and node.place.head.startswith("127.0.0.2:")
    assert node._head.address == "10.0.0.1:6380"
    await node.leave()


async def test_a_node_of_somebody_elses_ray_asks_for_no_head(
    machine: Made, empty_valkey: str
) -> None:
    node = machine(CFM_RAY_ADDRESS="10.0.0.5:6379")
    await node.be_node(patience_s=0.0)
    assert node.place is None


async def test_a_node_leads_to_a_head_that_has_moved_and_to_one_that_began_again(
    machine: Made, members: Members
) -> None:
    node = machine("10.0.0.2")
    async with says("first") as first, says("second") as second:
        await members.head(Holder("1", "one", first)).take()
        await node.be_node()
        keeping = asyncio.create_task(node.keep())
        assert node.place is not None and node.place.head is not None
        line = await Line.to(node.place.head)
        await line.hears(b"first")
        # At another address, and then anew at the same: who was connected is told.
        for holder in (Holder("2", "two", second), Holder("3", "two", second)):
            await members.head(holder).take()
            await line.ends()
            line = await Line.to(node.place.head)
            await line.hears(b"second")
        keeping.cancel()
        await node.leave()
        await line.ends()
    found = await members.head(Holder("", "")).read()
    assert found is not None and found.id == "3", "the lease is not a node's"
