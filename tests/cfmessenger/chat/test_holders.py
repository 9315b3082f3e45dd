"""Whose sockets an object has, who is still to come back, who has missed nothing."""

import pytest

from cfmessenger.chat.holders import Holders


def woken(clean: bool = True) -> Holders:
    before, after = Holders(), Holders()
    for gateway in ("h", "g"):
        before.attach(gateway)
    after.restore(before.snapshot(), clean)
    return after


def test_who_attaches_holds_until_it_is_dead_and_has_not_slept() -> None:
    holders = Holders()
    assert not holders.attach("g") and not holders.attach("h")
    holders.detach("g")
    assert (holders.gateways, holders.absent) == ({"h"}, set())
    assert holders.snapshot() == ["h"]


def test_after_a_sleep_all_are_remembered_and_each_has_missed_nothing_once() -> None:
    holders = woken()
    assert holders.gateways == holders.absent == {"g", "h"}
    assert holders.attach("g")
    assert not holders.attach("g"), "from now on it is awake"
    assert holders.attach("h")


def test_after_a_crash_they_may_come_back_and_nobody_knows_what_they_missed() -> None:
    holders = woken(clean=False)
    assert (holders.gateways, holders.absent) == (set(), {"g", "h"})
    assert not holders.attach("g")
    assert holders.gateways == {"g"}


@pytest.mark.parametrize("how", ["attach", "detach", "give_up"])
def test_after_a_crash_each_is_awaited_until_it_comes_is_dead_or_given_up(
    how: str,
) -> None:
    assert not woken().awaited, "who is in the roster is known"
    holders = woken(clean=False)
    holders.attach("g")
    assert holders.awaited
    if how == "give_up":
        holders.give_up()
    else:
        getattr(holders, how)("h")
    assert not holders.awaited


@pytest.mark.parametrize("how", ["missed", "told", "detach"])
def test_who_missed_something_has_not_slept_through(how: str) -> None:
    holders = woken()
    if how == "told":
        holders.told()
    else:
        getattr(holders, how)("g")
    assert not holders.attach("g")
    assert holders.attach("h") == (how != "told")
