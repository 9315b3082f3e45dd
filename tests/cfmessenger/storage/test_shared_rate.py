"""A shared rate: one window for each key. Its edges are tested where it was born, in
`test_login_rate`."""

from collections.abc import AsyncIterator

import pytest

from cfmessenger.storage.shared_rate import SharedRate
from cfmessenger.storage.valkey import Valkey


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()


async def test_each_key_has_its_own_places(kv: Valkey) -> None:
    rate = SharedRate(kv, 2, 60)
    assert [await rate.take("cfm:a") for _ in range(2)] == [0, 0]
    assert 59_000 < await rate.take("cfm:a") <= 60_000
    assert await rate.take("cfm:b") == 0
    assert len(await kv.ask("HGETALL", "cfm:a")) == 2 * 2
