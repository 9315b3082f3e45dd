"""When arrivals are a storm, who is held back in it, and when it is over."""

from cfmessenger.link.arrivals import Arrivals, Storm

SMALL = Storm(above=10, burst=2, most=1, rounds=3)


def stormy() -> Arrivals:
    arrivals = Arrivals(SMALL)
    arrivals.take(["a", "b", "c"], 11)
    return arrivals


def test_few_at_a_time_or_few_in_all_are_no_storm() -> None:
    arrivals = Arrivals(SMALL)
    arrivals.take(["a", "b"], 100)
    arrivals.take(["a", "b", "c"], 10)
    assert not arrivals
    assert (arrivals.count, arrivals.number("a")) == (0, 0)


def test_in_a_storm_all_are_numbered_and_held_back_until_it_is_over() -> None:
    arrivals = stormy()
    arrivals.take(["d"], 12)
    assert arrivals and arrivals.count == 4
    assert not arrivals.over()
    arrivals.take(["e"], 13)
    assert arrivals.over(), "one in a round is none"
    assert arrivals.release() == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert not arrivals
    arrivals.take(["f"], 14)
    assert (arrivals.number("f"), arrivals.count) == (0, 5)


def test_one_that_lasts_is_over_after_some_rounds_and_may_begin_anew() -> None:
    arrivals = Arrivals(SMALL)
    for _ in range(2):
        found = []
        for _ in range(SMALL.rounds):
            arrivals.take(["a", "b", "c"], 20)
            found.append(arrivals.over())
        assert found == [False, False, True]
        assert list(arrivals.release()) == ["a", "b", "c"]


def test_a_storm_right_after_another_has_its_rounds_from_its_own_beginning() -> None:
    arrivals = stormy()
    arrivals.release()
    arrivals.take(["d", "e", "f"], 20)
    assert not arrivals.over()


def test_who_is_gone_is_not_held_back_and_comes_again_as_the_last() -> None:
    arrivals = stormy()
    arrivals.forget("a")
    arrivals.forget("nobody")
    arrivals.take(["b", "a"], 12)
    assert arrivals.release() == {"c": 3, "b": 4, "a": 5}
