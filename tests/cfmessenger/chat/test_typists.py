"""Typing stops by itself, follows the socket that typed, and is throttled."""

from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.chat.typists import CHANGES, CHANGES_MS, TTL_MS, Typists


def says(typists: Typists, now: int, typing: bool, conn: str = "g.1") -> list[bool]:
    return [t.shown for t in typists.report(now, "user_1", "One", conn, typing)]


def rings(typists: Typists, now: int) -> list[bool]:
    return [typist.shown for typist in typists.alarm(now)]


def test_true_runs_out_after_three_seconds() -> None:
    typists = Typists(2)
    assert says(typists, 0, True) == [True]
    assert typists.alarm_at == TTL_MS
    assert rings(typists, TTL_MS - 1) == []
    assert rings(typists, TTL_MS) == [False]
    assert typists.alarm_at is None
    assert typists.get("user_1") is None


def test_a_repeated_true_only_re_arms() -> None:
    typists = Typists(2)
    assert says(typists, 0, True) == [True]
    assert says(typists, 2_000, True) == []
    assert rings(typists, 3_000) == []
    assert typists.alarm_at == 5_000
    assert rings(typists, 5_000) == [False]


def test_false_without_true_is_nothing() -> None:
    typists = Typists(2)
    assert says(typists, 0, False) == []
    assert typists.alarm_at is None


def test_only_the_socket_that_typed_last_stops_it_by_closing() -> None:
    typists = Typists(2)
    says(typists, 0, True, "g.1")
    says(typists, 1, True, "g.2")
    assert typists.stop(2, "user_1", "g.1") == []
    assert [t.shown for t in typists.stop(2, "user_1", "g.2")] == [False]
    assert typists.stop(3, "user_1", "g.2") == []
    assert typists.alarm_at is None


def test_five_changes_a_second_travel_and_the_last_wins() -> None:
    typists = Typists(2)
    travelled = [says(typists, n, n % 2 == 0) for n in range(8)]
    assert travelled == [[True], [False], [True], [False], [True], [], [], []]
    assert typists.alarm_at == CHANGES_MS
    assert rings(typists, CHANGES_MS) == [False]


def test_a_change_taken_back_in_time_never_travels() -> None:
    typists = Typists(2)
    for n in range(5):
        says(typists, n, n % 2 == 0)
    assert says(typists, 5, False) == []
    assert says(typists, 6, True) == []
    assert rings(typists, CHANGES_MS) == []
    assert rings(typists, TTL_MS + 6) == [False]


def test_a_held_back_start_that_ended_is_forgotten() -> None:
    typists = Typists(2)
    for n in range(6):
        says(typists, n, n % 2 == 0)
    assert says(typists, 6, True) == []
    assert says(typists, 7, False) == []
    assert rings(typists, CHANGES_MS) == [False]
    assert typists.get("user_1") is None


def test_users_type_independently() -> None:
    typists = Typists(2)
    typists.report(0, "user_1", "One", "g.1", True)
    typists.report(10, "user_2", "Two", "g.2", True)
    assert [t.user_id for t in typists.alarm(3_000)] == ["user_1"]
    assert typists.alarm_at == 3_010
    assert [t.user_id for t in typists.alarm(3_010)] == ["user_2"]


@given(st.lists(st.tuples(st.integers(0, 1_500), st.booleans()), max_size=40))
def test_what_is_shown_is_what_was_said(steps: list[tuple[int, bool]]) -> None:
    typists, now, last_true = Typists(2), 0, -TTL_MS
    travelled: list[tuple[int, bool]] = []

    def turn(until: int) -> None:
        while typists.alarm_at is not None and typists.alarm_at <= until:
            at = typists.alarm_at
            travelled.extend((at, shown) for shown in rings(typists, at))

    for step, typing in steps:
        turn(now + step)
        now += step
        last_true = now if typing else last_true
        travelled.extend((now, shown) for shown in says(typists, now, typing))
    turn(now + 10_000)
    assert [shown for _, shown in travelled] == [
        n % 2 == 0 for n in range(len(travelled))
    ]
    assert len(travelled) % 2 == 0  # everyone has stopped
    times = [at for at, _ in travelled]
    assert all(
        later - earlier >= CHANGES_MS
        for earlier, later in zip(times, times[CHANGES:], strict=False)
    )
    assert not times or times[-1] <= last_true + TTL_MS
