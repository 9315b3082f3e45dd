"""Two stores on one database, as two gateways have them."""

from collections.abc import AsyncIterator, Callable

import pytest

from cfmessenger.accounts.users import Directory
from cfmessenger.data.store import Store

Pair = tuple[Store, Store]


@pytest.fixture
async def pair(new_database: Callable[[], str]) -> AsyncIterator[Pair]:
    url = new_database()
    first, second = Store(url), Store(url)
    await first.start(Directory.load())
    yield first, second
    await first.aclose()
    await second.aclose()


@pytest.fixture
def store(pair: Pair) -> Store:
    return pair[0]
