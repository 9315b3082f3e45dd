"""A line that strangers can cause: it is not told as often as they like."""

import logging

import pytest

from cfmessenger import seldom
from cfmessenger.seldom import Seldom
from tests import patience


async def test_each_kind_is_told_at_once_and_then_once_in_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Seldom(logging.getLogger("cfmessenger.test"))
    for _ in range(3):
        said.warn("a", "one is refused")
        said.warn("b", "another is")
    assert caplog.messages == ["one is refused", "another is"]
    patience.skip(seldom.EVERY_S)
    said.warn("a", "one is refused")
    assert caplog.messages[2:] == ["one is refused (3 times)"]


async def test_what_is_said_once_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Seldom(logging.getLogger("cfmessenger.test"))
    for _ in range(3):
        said.once("a", "somebody old is here")
        patience.skip(seldom.EVERY_S)
    assert caplog.messages == ["somebody old is here"]


async def test_who_invents_kinds_fills_no_memory_and_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Seldom(logging.getLogger("cfmessenger.test"))
    for n in range(seldom.MOST + 100):
        said.warn(str(n), f"stranger {n}")
    assert len(said._kinds) == seldom.MOST + 1
    assert len(caplog.messages) == seldom.MOST + 1
