"""The login rate against a real Valkey: exact at its edges, atomic, per address."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from valkey import Valkey as Admin

from cfmessenger.accounts.login_rate import LoginRate, subject
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()


async def test_the_sixth_attempt_waits(kv: Valkey) -> None:
    rate = LoginRate(kv, 5, 10)
    assert [await rate.take("10.0.0.1") for _ in range(5)] == [0] * 5
    assert 9_000 < await rate.take("10.0.0.1") <= 10_000
    assert await rate.take("10.0.0.2") == 0


async def test_a_place_is_free_again_exactly_one_window_later(kv: Valkey) -> None:
    rate = LoginRate(kv, 2, 0.2)
    loop = asyncio.get_running_loop()
    for n in range(50):
        address = f"10.0.0.{n}"
        assert await rate.take(address) == 0
        await asyncio.sleep(0.1)
        second = loop.time()
        assert await rate.take(address) == 0
        wait = await rate.take(address)
        assert wait <= 110
        await asyncio.sleep(wait / 1000 + 0.005)
        # The first place is free, the second is not: the window slides.
        assert await rate.take(address) == 0
        third = await rate.take(address)
        if loop.time() - second < 0.2:
            assert wait > 0 and third > 0
            return
    raise AssertionError("this machine never gives a tenth of a second")


async def test_refused_attempts_neither_count_nor_leave_anything(kv: Valkey) -> None:
    rate = LoginRate(kv, 1, 0.1)
    assert await rate.take("10.0.0.1") == 0
    for _ in range(50):
        await rate.take("10.0.0.1")
    await asyncio.sleep(0.11)
    assert await rate.take("10.0.0.1") == 0
    assert len(await kv.ask("HGETALL", keys.login("10.0.0.1"))) == 1 * 2


async def test_exactly_five_of_a_hundred_at_once_over_two_gateways(
    kv: Valkey, empty_valkey: str
) -> None:
    other = Valkey(empty_valkey)
    rates = [LoginRate(kv, 5, 10), LoginRate(other, 5, 10)]
    waits = await asyncio.gather(*(rates[n % 2].take("10.0.0.1") for n in range(100)))
    assert waits.count(0) == 5
    other.close()


async def test_no_limit_stores_nothing(kv: Valkey, admin_valkey: Admin) -> None:
    rate = LoginRate(kv, 0, 10)
    assert [await rate.take("10.0.0.1") for _ in range(50)] == [0] * 50
    assert admin_valkey.dbsize() == 0


async def test_valkey_away() -> None:
    with pytest.raises(Unavailable):
        await LoginRate(Valkey("unix:///nowhere/at/all"), 5, 10).take("10.0.0.1")


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("anything} at\r\nall", "unknown"),
        ("", "unknown"),
        (None, "local"),
    ],
)
def test_who_counts_as_one_client(address: str | None, counted_as: str) -> None:
    assert subject(address) == counted_as
