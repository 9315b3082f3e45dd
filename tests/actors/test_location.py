"""Location hints: the first one counts, and strict is not lenient."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import valkey

from actors.location import Location, Nowhere
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog

US = {"label_selector": {"region": "us"}}
US_IF_POSSIBLE = {**US, "fallback_strategy": [{"label_selector": {"region": "!us"}}]}


def fresh() -> str:
    return f"room:r{uuid.uuid4().hex[:20]}"


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    opened = ValkeyLog(valkey_url, 1000)
    yield opened
    opened.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn


def location(log: ValkeyLog, *, strict: bool = False) -> Location:
    return Location(log, "uk", strict)


async def test_a_hint_is_a_preference(log: ValkeyLog) -> None:
    where = location(log)
    assert await where.options(fresh(), "us", ["uk", "us"]) == US_IF_POSSIBLE
    assert await where.options(fresh(), "us", [None, "us"]) == US_IF_POSSIBLE
    # Nothing to choose from, nothing to say.
    assert await where.options(fresh(), "us", ["us", "us"]) == {}
    assert await where.options(fresh(), "us", ["uk", None]) == {}


async def test_the_first_activation_decides(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    where, name = location(log), fresh()
    await where.options(name, "us", ["uk"])
    assert admin_valkey.get(keys.hint(name)) == b"us"
    assert await where.options(name, "uk", ["uk", "us"]) == US_IF_POSSIBLE
    assert await where.options(name, None, ["uk", "us"]) == US_IF_POSSIBLE
    assert admin_valkey.ttl(keys.hint(name)) == -1


async def test_without_a_hint_the_default_is_taken(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    name = fresh()
    await location(log).options(name, None, ["uk"])
    assert admin_valkey.get(keys.hint(name)) == b"uk"


async def test_strict_is_there_or_nowhere(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    where, name = location(log, strict=True), fresh()
    with pytest.raises(Nowhere):
        await where.options(name, "us", ["uk", None])
    # Refused is not activated: the next hint may be another.
    assert admin_valkey.get(keys.hint(name)) is None
    assert await where.options(name, "us", ["uk", "us"]) == US
    assert await where.options(name, "uk", ["us", "us"]) == US
    with pytest.raises(Nowhere):
        await where.options(name, "uk", ["uk"])


async def test_valkey_away_costs_the_memory_but_not_the_room() -> None:
    nowhere = ValkeyLog("unix:///nonexistent.sock", 1000)
    assert await location(nowhere).options(fresh(), "us", ["uk", "us"]) == (
        US_IF_POSSIBLE
    )
    with pytest.raises(Unavailable) as refused:
        await location(nowhere, strict=True).options(fresh(), "us", ["us"])
    assert not isinstance(refused.value, Nowhere)  # nothing may be ended for it
