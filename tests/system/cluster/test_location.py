"""Objects live where their location hint says: two Ray nodes in two regions."""

import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import valkey

from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.storage import keys
from tests.conftest import ADMIN, own_valkey, url_of
from tests.effort import long_only
from tests.patience import Stopwatch
from tests.system.cluster.ray_nodes import Nodes

pytestmark = [long_only, pytest.mark.cluster]


def fresh() -> str:
    return f"room:r{uuid.uuid4().hex[:20]}"


@pytest.fixture(scope="module")
def nodes(valkey_url: str) -> Iterator[Nodes]:
    made = Nodes(valkey_url)
    try:
        made.start_node("uk")
        made.start_node("us")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def other_valkey() -> Iterator[Path]:
    """For those that are strict: on one Valkey all agree on that."""
    with own_valkey() as socket:
        yield socket


def strictly(valkey: Path) -> dict[str, str]:
    return {"CFM_LOCATION_STRICT": "1", "CFM_VALKEY_URL": url_of(valkey)}


@pytest.fixture(scope="module")
def urls(nodes: Nodes, other_valkey: Path) -> tuple[str, str]:
    """A lenient and a strict namespace server, which know both nodes."""
    strict = strictly(other_valkey)
    for settings in ({}, strict):
        nodes.serve("us", **settings)
    return nodes.serve().url, nodes.serve(**strict).url


@pytest.fixture
async def lenient(urls: tuple[str, str]) -> AsyncIterator[NamespaceClient]:
    client = NamespaceClient(urls[0])
    yield client
    await client.close()


@pytest.fixture
async def strict(urls: tuple[str, str]) -> AsyncIterator[NamespaceClient]:
    client = NamespaceClient(urls[1])
    yield client
    await client.close()


async def test_a_hint_is_followed_where_it_can_be(
    nodes: Nodes, lenient: NamespaceClient
) -> None:
    for hint in ("us", "uk", "us", "uk", "us"):
        at = await lenient.resolve(fresh(), hint)
        assert nodes.region_of(at.pid) == hint
    at = await lenient.resolve(fresh())  # nobody says: CFM_LOCATION_HINT
    assert nodes.region_of(at.pid) == "uk"
    at = await lenient.resolve(fresh(), "mars")
    assert nodes.region_of(at.pid) in nodes.nodes


async def test_the_first_hint_is_remembered(
    nodes: Nodes, lenient: NamespaceClient, admin_valkey: valkey.Valkey
) -> None:
    name = fresh()
    first = await lenient.resolve(name, "us")
    assert admin_valkey.get(keys.hint(name)) == b"us"
    assert (await lenient.resolve(name, "uk")).pid == first.pid
    for _ in range(3):
        os.kill(first.pid, signal.SIGKILL)
        again = await lenient.resolve(name, "uk")
        assert again.pid != first.pid and nodes.region_of(again.pid) == "us"
        first = again


async def test_others_can_reach_it_where_it_says_it_is(
    nodes: Nodes, lenient: NamespaceClient
) -> None:
    at = await lenient.resolve(fresh(), "us")
    assert at.host == nodes.address.rpartition(":")[0]
    with socket.create_connection((at.host, at.port), timeout=2):
        pass


async def test_strict_is_nowhere_rather_than_elsewhere(
    nodes: Nodes, strict: NamespaceClient, other_valkey: Path
) -> None:
    name = fresh()
    before = {pid for node in nodes.nodes.values() for pid in node.workers()}
    began = Stopwatch()
    with pytest.raises(Unavailable):
        await strict.resolve(name, "mars")
    assert began.seconds < 3.0
    assert {p for node in nodes.nodes.values() for p in node.workers()} <= before
    # It has not been activated, so nothing is remembered either.
    with valkey.Valkey(
        unix_socket_path=str(other_valkey), username=ADMIN, password="-"
    ) as kv:
        assert kv.get(keys.hint(name)) is None
    at = await strict.resolve(name, "us")
    assert nodes.region_of(at.pid) == "us"


async def test_strict_waits_for_no_node_that_is_gone(
    nodes: Nodes, strict: NamespaceClient, other_valkey: Path
) -> None:
    name = fresh()
    await strict.resolve(name, "us")
    nodes.nodes.pop("us").kill()

    # At first Ray does not know, then it does: an answer every time, never silence.
    began, answers = time.monotonic(), 0
    while time.monotonic() - began < 12.0:
        asked = Stopwatch()
        with pytest.raises(Unavailable):
            await strict.resolve(name, "uk")
        answers += 1
        if asked.seconds < 0.5 and answers > 3:
            break
    else:
        raise AssertionError("every answer was late")

    nodes.start_node("us")
    nodes.serve("us", **strictly(other_valkey))
    await _until_resolved(nodes, strict, name)


async def _until_resolved(nodes: Nodes, client: NamespaceClient, name: str) -> None:
    watch = Stopwatch()
    while True:
        try:
            at = await client.resolve(name)
        except Unavailable:
            assert watch.seconds < 30.0
            continue
        assert nodes.region_of(at.pid) == "us"
        return
