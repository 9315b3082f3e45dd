"""What only the namespace without Ray does; for the rest see tests/system/contract."""

from collections.abc import AsyncIterator

import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from cfmessenger.storage.log import ValkeyLog
from tests.actors.caller import Caller
from tests.actors.scene import fresh_room


@pytest.fixture
async def namespace(valkey_url: str) -> AsyncIterator[LocalNamespace]:
    settings = HostSettings(valkey_url, 10_000, 3600.0, (0, 1), (0, 1))
    namespace = LocalNamespace(settings)
    yield namespace
    await namespace.close()


async def test_all_names_live_in_one_host(namespace: LocalNamespace) -> None:
    one, two = await namespace.resolve("room:a"), await namespace.resolve("room:b")
    assert one == two


async def test_nothing_runs_before_it_is_asked(namespace: LocalNamespace) -> None:
    assert await namespace.describe() == []
    assert not await namespace.kill("room:a", "1")
    assert await namespace.ping()
    await namespace.close()


async def test_closing_puts_objects_to_sleep_and_it_can_be_asked_again(
    namespace: LocalNamespace, valkey_url: str
) -> None:
    name = fresh_room()
    address = await namespace.resolve(name)
    caller = await Caller.open(address)
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    await namespace.close()
    await caller.until_ended()
    assert caller.visitor.goodbyes[-1].reason == "shutting_down"
    log = ValkeyLog(valkey_url, 1000)
    assert await log.mirror(name) is not None
    log.close()
    again = await namespace.resolve(name)
    assert (again.actor_id, again.key == address.key) == ("2", False)


async def test_a_killed_host_mirrors_nothing(
    namespace: LocalNamespace, valkey_url: str
) -> None:
    name = fresh_room()
    address = await namespace.resolve(name)
    caller = await Caller.open(address)
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    assert await namespace.kill(address.actor, address.actor_id)
    await caller.until_ended()
    assert caller.visitor.goodbyes == []
    log = ValkeyLog(valkey_url, 1000)
    assert await log.mirror(name) is None
    log.close()
