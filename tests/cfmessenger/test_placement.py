"""Placement: one function of the generation, whoever computes it."""

from collections import Counter

import pytest

from cfmessenger.placement import Mode, Placement, is_pool

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


@pytest.mark.parametrize("mode", ["auto", "pooled", "dedicated"])
def test_a_pin_can_be_taken_back_whatever_the_mode(mode: Mode) -> None:
    pinned = Placement(mode, 2, 1).promoted("room:a", "pinned", now=5)
    assert pinned is not None and pinned.own.keys() == {"room:a"}
    unpinned = pinned.unpinned("room:a", now=6)
    assert unpinned is not None and not unpinned.own
    assert unpinned.unpinned("room:a", now=7) is None
