"""Location hints: the first one counts, and strict is not lenient."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping

import pytest
import valkey

from actors.location import Location, Nowhere
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog

UK_AND_US: Mapping[str, str | None] = {"n1": "uk", "n2": "us", "n3": "us"}
US = ["n2", "n3"]


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
    assert await where.among(fresh(), "us", UK_AND_US) == US
    assert await where.among(fresh(), "us", {"n1": None, "n2": "us"}) == ["n2"]
    # None is there: any will do.
    assert await where.among(fresh(), "us", {"n1": "uk", "n2": None}) == ["n1", "n2"]
    assert await where.among(fresh(), "us", {}) == []


async def test_the_first_activation_decides(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    where, name = location(log), fresh()
    await where.among(name, "us", {"n1": "uk"})
    assert admin_valkey.get(keys.hint(name)) == b"us"
    assert await where.among(name, "uk", UK_AND_US) == US
    assert await where.among(name, None, UK_AND_US) == US
    assert admin_valkey.ttl(keys.hint(name)) == -1


async def test_without_a_hint_the_default_is_taken(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    name = fresh()
    assert await location(log).among(name, None, UK_AND_US) == ["n1"]
    assert admin_valkey.get(keys.hint(name)) == b"uk"


async def test_strict_is_there_or_nowhere(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    where, name = location(log, strict=True), fresh()
    with pytest.raises(Nowhere):
        await where.among(name, "us", {"n1": "uk", "n2": None})
    # Refused is not activated: the next hint may be another.
    assert admin_valkey.get(keys.hint(name)) is None
    assert await where.among(name, "us", UK_AND_US) == US
    assert await where.among(name, "uk", {"n2": "us"}) == ["n2"]
    with pytest.raises(Nowhere):
        await where.among(name, "uk", {"n1": "uk"})


async def test_valkey_away_costs_the_memory_but_not_the_room() -> None:
    nowhere = ValkeyLog("unix:///nonexistent.sock", 1000)
    assert await location(nowhere).among(fresh(), "us", UK_AND_US) == US
    with pytest.raises(Unavailable) as refused:
        await location(nowhere, strict=True).among(fresh(), "us", UK_AND_US)
    assert not isinstance(refused.value, Nowhere)  # nothing may be ended for it
