"""Two gateways over one namespace, shared by the tests of a module."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.live import Node, live


@pytest.fixture(scope="module")
async def pair(valkey_url: str) -> AsyncIterator[Node]:
    async with live(valkey_url, 2) as node:
        yield node


@pytest.fixture
async def node(pair: Node) -> AsyncIterator[Node]:
    """The pair, with sockets and sessions of this test's own."""
    async with pair.visit() as own:
        yield own
