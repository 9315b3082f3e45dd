"""Placement: one function of the generation, whoever computes it."""

from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from cfmessenger.placement import (
    MAX_OWN,
    REST_MS,
    Mode,
    Own,
    Placement,
    Why,
    is_pool,
)

ROOMS = [f"room:r{n}" for n in range(4000)]


def test_dedicated_names_are_their_own_actors() -> None:
    assert Placement().actor_of("room:general") == "room:general"


def test_only_rooms_are_pooled() -> None:
    pooled = Placement("pooled", 4)
    assert pooled.actor_of("presence:global") == "presence:global"
    assert is_pool(pooled.actor_of("room:general"))
    assert not is_pool("room:general")


@pytest.mark.parametrize("size", [1, 2, 5])
def test_rooms_spread_evenly(size: int) -> None:
    counts = Counter(map(Placement("pooled", size).actor_of, ROOMS))
    assert set(counts) == {f"rooms:{n}" for n in range(size)}
    assert max(counts.values()) < 1.15 * len(ROOMS) / size


def test_a_larger_pool_moves_only_what_goes_to_the_new_actor() -> None:
    four, five = Placement("pooled", 4), Placement("pooled", 5, 1)
    moved = [name for name in ROOMS if four.actor_of(name) != five.actor_of(name)]
    assert {five.actor_of(name) for name in moved} == {"rooms:4"}
    assert len(moved) < 1.2 * len(ROOMS) / 5


def test_which_actors_have_a_part_in_a_generation() -> None:
    pooled, dedicated = Placement("pooled", 2), Placement()
    assert pooled.has("rooms:1") and pooled.has("presence:global")
    assert not pooled.has("rooms:2") and not pooled.has("room:general")
    assert dedicated.has("room:general") and not dedicated.has("rooms:0")


# Exceptions.

AUTO = Placement("auto", 2, 10)
NOW = 1_000_000


def grown(before: Placement, *names: str, why: Why = "lived") -> Placement:
    for name in names:
        made = before.promoted(name, why, NOW)
        assert made is not None
        before = made
    return before


def test_an_exception_has_its_own_actor_and_nobody_else_moves() -> None:
    made = grown(AUTO, "room:x")
    assert made.number == 11
    assert made.actor_of("room:x") == "room:x" and made.has("room:x")
    moved = [n for n in ROOMS if made.actor_of(n) != AUTO.actor_of(n)]
    assert moved == []
    assert made.changed_after(10) == {"room:x"} and made.changed_after(11) == set()


@pytest.mark.parametrize("mode", ["pooled", "dedicated"])
def test_exceptions_count_in_auto_alone(mode: Mode) -> None:
    pinned = grown(AUTO, "room:x", why="pinned")
    made = pinned.reseeded(mode, 2, (), NOW)
    assert made is not None
    assert made.actor_of("room:x") == Placement(mode, 2).actor_of("room:x")
    assert made.why("room:x") is None
    back = made.reseeded("auto", 2, (), NOW)
    assert back is not None and back.why("room:x") == "pinned", "a person's word stays"


def test_what_was_measured_ends_with_the_mode() -> None:
    made = grown(AUTO, "room:x").reseeded("pooled", 2, (), NOW)
    assert made is not None and made.own == {}
    assert made.changed_after(11) == {"room:x"}


def test_a_room_that_gave_its_actor_back_rests_for_a_minute() -> None:
    back = grown(AUTO, "room:x").demoted(["room:x"], NOW)
    assert back is not None
    assert back.promoted("room:x", "hot", NOW + REST_MS - 1) is None
    assert back.promoted("room:x", "pinned", NOW + 1) is not None, "but for a person"
    again = back.promoted("room:x", "hot", NOW + REST_MS)
    assert again is not None and again.why("room:x") == "hot"
    assert again.ended == {}, "forgotten by then"


def test_a_better_reason_moves_nothing() -> None:
    lived = grown(AUTO, "room:x")
    hot = lived.promoted("room:x", "hot", NOW + 5)
    assert hot is not None and hot.why("room:x") == "hot"
    assert hot.changed_after(lived.number) == set()
    assert hot.promoted("room:x", "lived", NOW) is None
    cooled = hot.cooled("room:x", NOW)
    assert cooled is not None and cooled.own == lived.own


def test_load_takes_back_only_what_load_has_made() -> None:
    made = AUTO.reseeded("auto", 2, ["room:general"], NOW)
    assert made is not None
    made = grown(grown(made, "room:p", why="pinned"), "room:x", "room:y")
    left = made.demoted(["room:general", "room:p", "room:x", "room:none"], NOW)
    assert left is not None and set(left.own) == {"room:general", "room:p", "room:y"}
    assert left.demoted(["room:p"], NOW) is None
    assert left.unpinned("room:y", NOW) is None
    unpinned = left.unpinned("room:p", NOW)
    assert unpinned is not None and set(unpinned.own) == {"room:general", "room:y"}


def test_the_bound_holds_and_one_may_go_for_another() -> None:
    full = replace(AUTO, own={f"room:o{n}": Own("hot", 0, 1) for n in range(MAX_OWN)})
    assert full.promoted("room:x", "pinned", NOW) is None
    made = full.promoted("room:x", "hot", NOW, instead="room:o7")
    assert made is not None and len(made.own) == MAX_OWN
    assert made.changed_after(10) == {"room:x", "room:o7"}
    assert len(msgspec.json.encode(made)) < 65_000


def test_an_exception_that_came_and_went_unseen_is_known() -> None:
    there = grown(AUTO, "room:x")
    gone = there.demoted(["room:x"], NOW)
    assert gone is not None and gone.actor_of("room:x") == AUTO.actor_of("room:x")
    assert gone.changed_after(AUTO.number) == {"room:x"}


@pytest.mark.parametrize("mode", ["auto", "pooled", "dedicated"])
def test_a_pin_can_be_taken_back_whatever_the_mode(mode: Mode) -> None:
    pinned = Placement(mode, 2, 1).promoted("room:a", "pinned", now=5)
    assert pinned is not None and pinned.own.keys() == {"room:a"}
    unpinned = pinned.unpinned("room:a", now=6)
    assert unpinned is not None and not unpinned.own
    assert unpinned.unpinned("room:a", now=7) is None
