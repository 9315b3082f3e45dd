"""On which node an actor is made: all have as much, and the newest takes its share."""

from collections import Counter

import pytest

from actors.spread import Share, choose, shares, uneven

NODES = ["a", "b", "c"]


def pools(**count: int) -> dict[str, str]:
    """So many pools on each node: actor → node."""
    names = [node for node, many in count.items() for _ in range(many)]
    return {f"rooms:{n}": node for n, node in enumerate(names)}


def test_pools_and_all_others_are_counted_for_themselves() -> None:
    where = {"rooms:0": "a", "rooms:1": "a", "room:x": "a", "presence:global": "b"}
    assert shares(where) == {"a": Share(2, 1), "b": Share(0, 1)}
    assert shares({}) == {}


@pytest.mark.parametrize("actor", ["rooms:{}", "room:r{}"])
def test_all_nodes_have_as_many(actor: str) -> None:
    where: dict[str, str] = {}
    for n in range(31):
        name = actor.format(n)
        node = choose(name, NODES, shares(where))
        assert node is not None
        where[name] = node
    assert sorted(Counter(where.values()).values()) == [10, 10, 11]


def test_a_room_goes_where_few_others_are_and_a_pool_where_few_pools_are() -> None:
    share = {"a": Share(pools=5, others=0), "b": Share(pools=0, others=5)}
    assert choose("room:x", ["a", "b"], share) == "a"
    assert choose("rooms:0", ["a", "b"], share) == "b"
    # Among equals of its own kind, the one that has less of the rest.
    even = {"a": Share(1, 3), "b": Share(1, 2), "c": Share(2, 2)}
    assert choose("rooms:0", NODES, even) == "b"
    assert choose("room:x", NODES, even) == "b"


def test_equals_are_chosen_by_name_the_same_way_everywhere() -> None:
    chosen = {n: choose(f"room:{n}", NODES, {}) for n in range(300)}
    assert chosen == {n: choose(f"room:{n}", NODES[::-1], {}) for n in range(300)}
    counts = Counter(chosen.values())
    assert set(counts) == set(NODES) and min(counts.values()) > 60


def test_without_a_node_there_is_none() -> None:
    assert choose("room:x", [], {"a": Share()}) is None


def test_the_newest_takes_one_after_another_until_it_has_its_share_and_no_more() -> (
    None
):
    where, moved = pools(a=4, b=3), []
    while (pool := uneven("c", NODES, where)) is not None:
        moved.append(where[pool])
        where[pool] = "c"
        assert len(moved) < 10, "it ends"
    assert Counter(where.values()) == {"a": 2, "b": 3, "c": 2}
    assert moved == ["a", "a"]


@pytest.mark.parametrize(
    "have", [(0, 0, 0), (1, 1, 0), (2, 2, 1), (1, 0, 1), (0, 0, 9)]
)
def test_one_more_than_another_is_even(have: tuple[int, int, int]) -> None:
    where = pools(**dict(zip(NODES, have, strict=True)))
    assert uneven("c", NODES, where) is None


def test_two_that_even_out_at_once_do_not_take_back_and_forth() -> None:
    where = pools(a=7, b=0, c=0)
    for turn in range(20):
        newest = "bc"[turn % 2]
        if (pool := uneven(newest, NODES, where)) is not None:
            assert where[pool] == "a"
            where[pool] = newest
    assert sorted(Counter(where.values()).values()) == [2, 2, 3]


def test_only_pools_move_and_only_from_nodes_that_are_there() -> None:
    assert uneven("c", NODES, {f"room:{n}": "a" for n in range(9)}) is None
    assert uneven("c", NODES, pools(gone=9)) is None
    assert uneven("c", ["c"], pools(a=9)) is None
    taken = uneven("c", NODES, pools(a=3) | {"room:x": "a"})
    assert taken is not None and taken.startswith("rooms:")
