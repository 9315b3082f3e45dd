"""Whom sockets want to hear of, and what the registry hears of that."""

import pytest

from cfmessenger.chat.effects import Wants
from cfmessenger.errors import ProtocolError
from cfmessenger.link.wanted import MAX_ALWAYS, Wanted, Watcher
from cfmessenger.wire.decoding import MAX_WATCHED


def entered(
    wanted: Wanted[str], user_id: str = "user_1", *friends: str
) -> Watcher[str]:
    watcher = Watcher(f"{user_id}'s", user_id)
    wanted.enter(watcher, friends)
    return watcher


def attached() -> tuple[Wanted[str], Watcher[str]]:
    wanted: Wanted[str] = Wanted()
    watcher = entered(wanted)
    assert wanted.leaving() == Wants(1, True, ["user_1"], [])
    return wanted, watcher


def test_the_first_is_the_whole_and_then_come_differences() -> None:
    wanted, watcher = attached()
    assert wanted.leaving() is None and not wanted.due
    wanted.watch(watcher, ["a", "b", "a"])
    assert wanted.due
    assert wanted.leaving() == Wants(2, False, ["a", "b"], [])
    wanted.unwatch(watcher, ["b"])
    assert wanted.leaving() is None  # who comes and goes costs the registry nothing
    assert wanted.sweep() == ["b"]
    assert wanted.leaving() == Wants(3, False, [], ["b"])


def test_each_user_is_wanted_once_however_many_sockets_want_them() -> None:
    wanted, first = attached()
    second = entered(wanted, "user_2")
    for watcher in (first, second):
        wanted.watch(watcher, ["a"])
    assert wanted.leaving() == Wants(2, False, ["user_2", "a"], [])
    wanted.unwatch(first, ["a"])
    assert wanted.sweep() == []  # the other one's interest stays
    wanted.leave(second)
    assert wanted.sweep() == ["user_2", "a"]
    assert list(wanted.circles) == ["user_1"]


def test_who_is_watched_and_known_stays_when_one_of_both_ends() -> None:
    wanted: Wanted[str] = Wanted()
    watcher = entered(wanted, "user_1", "friend")
    wanted.watch(watcher, ["friend", "user_1", "a"])
    wanted.unwatch(watcher, ["friend", "user_1", "a"])
    assert wanted.sweep() == ["a"]
    assert wanted.meet(watcher, "friend") is None
    wanted.watch(watcher, ["b"])
    assert wanted.meet(watcher, "b") is None  # it hears of them already
    wanted.unwatch(watcher, ["b"])
    assert wanted.sweep() == []
    met = wanted.meet(watcher, "c")
    assert met is not None and met.user_id == "c"


def test_an_attach_brings_all_of_it() -> None:
    wanted, watcher = attached()
    wanted.watch(watcher, ["a"])
    assert wanted.again() == Wants(2, True, ["user_1", "a"], [])
    assert wanted.leaving() is None
    wanted.unwatch(watcher, ["a"])
    wanted.sweep()
    assert wanted.again() == Wants(3, True, ["user_1"], [])


def test_who_is_dropped_and_wanted_again_is_not_dropped_at_the_registry() -> None:
    wanted, watcher = attached()
    wanted.watch(watcher, ["a"])
    wanted.leaving()
    wanted.unwatch(watcher, ["a"])
    wanted.sweep()
    wanted.watch(watcher, ["a"])
    assert wanted.leaving() == Wants(3, False, ["a"], [])


def test_it_knows_whom_the_registry_has_answered_for() -> None:
    wanted, watcher = attached()
    wanted.watch(watcher, ["a"])
    circles = list(wanted.circles.values())
    assert not wanted.knows(circles)
    wanted.leaving()
    wanted.answered = 1
    assert wanted.knows(circles[:1]) and not wanted.knows(circles)
    wanted.answered = 2
    assert wanted.knows(circles)


def test_without_sockets_the_registry_is_told_that_there_is_nobody() -> None:
    wanted, watcher = attached()
    wanted.leave(watcher)
    wanted.sweep()
    wanted.restart()
    assert wanted.leaving() == Wants(2, True, [], [])
    assert wanted.again() is None
    entered(wanted, "user_2")
    assert wanted.leaving() == Wants(4, True, ["user_2"], [])


def test_there_are_bounds() -> None:
    wanted, watcher = attached()
    wanted.watch(watcher, [f"a{n}" for n in range(MAX_WATCHED - 1)])
    before = watcher.watched
    with pytest.raises(ProtocolError, match="userIds: must be at most 500"):
        wanted.watch(watcher, ["a0", "b", "c"])
    assert watcher.watched == before and "b" not in wanted.circles
    wanted.watch(watcher, ["a0", "b"])
    many = entered(wanted, "user_2", *(f"f{n}" for n in range(MAX_ALWAYS + 10)))
    assert len(many.always) == MAX_ALWAYS + 1
    assert wanted.meet(many, "one more") is None
