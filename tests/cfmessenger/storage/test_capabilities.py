"""What the code of each process is able to, as they tell each other."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import valkey

from cfmessenger import __version__
from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import (
    HANDOVER,
    KNOWN,
    OLDER,
    OURS,
    SAID_FOR_S,
    Release,
    Running,
    running,
    said_by,
)
from cfmessenger.storage.members import Members, Node
from cfmessenger.storage.valkey import Valkey


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


async def test_who_says_nothing_is_of_an_older_release(
    kv: Valkey, admin_valkey: valkey.Valkey
) -> None:
    ours = Node("n1", "one", release=OURS.release, knows=OURS.knows)
    for node in (ours, Node("n2", "two")):
        await Members(kv).say(node)
    await kv.ask(*said_by("g1"))
    admin_valkey.hset(keys.RELEASES, "g3", b"\xff")
    admin_valkey.hset(keys.RELEASES, "g4", b'{"release":"9.0","knows":["x"],"y":1}')
    admin_valkey.hset(keys.RELEASES, "gone", b"{}")
    for gateway in ("g1", "g2", "g3", "g4"):
        admin_valkey.zadd(keys.GATEWAYS, {gateway: 1})
    found = await running(kv)
    assert found.nodes == {"n1": Release(__version__, KNOWN), "n2": OLDER}
    later = Release("9.0", ("x",))
    assert found.gateways == {"g1": OURS, "g2": OLDER, "g3": OLDER, "g4": later}
    assert found.lacking(HANDOVER) == [
        "node n2 (an older release)",
        "gateway g2 (an older release)",
        "gateway g3 (an older release)",
        "gateway g4 (9.0)",
    ]


async def test_nobody_is_there(kv: Valkey) -> None:
    assert (await running(kv)).lacking(HANDOVER) == []


async def test_a_gateways_word_ends_with_it(
    kv: Valkey, admin_valkey: valkey.Valkey
) -> None:
    await kv.ask(*said_by("g1"))
    (ttl,) = admin_valkey.execute_command("HTTL", keys.RELEASES, "FIELDS", 1, "g1")
    assert 0 < ttl <= SAID_FOR_S


def test_a_capability_is_on_once_all_know_it() -> None:
    all_know = Running({"n1": OURS}, {"g1": Release("9.0", ("more", *KNOWN))})
    assert all_know.lacking(HANDOVER) == []
    assert all_know.lacking("more") == [f"node n1 ({__version__})"]
