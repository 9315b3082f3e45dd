"""Memory goes back when many objects have left, and not at every one."""

import ctypes

import psutil
import pytest

from actors.memory import WORTH_IT, Slack


def test_it_is_given_back_when_half_of_many_have_left() -> None:
    slack = Slack()
    assert not slack.look(1000)
    assert not slack.look(501)
    assert slack.look(500)
    assert not slack.look(300)
    assert slack.look(100)
    assert slack.look(0)
    assert not slack.look(0)


def test_few_are_not_worth_it() -> None:
    slack = Slack()
    slack.look(WORTH_IT - 1)
    assert not slack.look(0)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc's malloc_trim"
)
def test_the_process_shrinks() -> None:
    slack, process = Slack(), psutil.Process()
    slack.look(1000)
    kept = [bytearray(3000) for _ in range(30_000)]
    keeper = bytearray(3000)  # on top of the heap, so that free() alone gives nothing
    full = process.memory_info().rss
    del kept
    assert slack.look(0)
    assert process.memory_info().rss < full - 60_000_000
    assert keeper
