"""The oracle: what it must not miss, and what it must not invent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.oracle import (
    MAX_MISSING,
    Evidence,
    Room,
    Shown,
    Track,
    compare,
    judge,
)
from cfmessenger.load.result import MAX_EXAMPLES, Oracle


def see(room: Room, track: Track, seq: int, message_id: str = "") -> None:
    """As a seat does for each message that it is shown."""
    name = message_id or f"m{seq}"
    if room.find(seq, name) is None and seq > room.pruned:
        room.add(Shown(seq, name, b""))
    track.see(seq)


def verdict(*histories: list[int], top: int = 0) -> Oracle:
    """Of sockets that all came into an empty room and saw these numbers."""
    room = Room("r")
    tracks = [room.enter(0) for _ in histories]
    for track, history in zip(tracks, histories, strict=True):
        for seq in history:
            see(room, track, seq)
    return judge([room], {"r": top})


def counts(found: Oracle) -> tuple[int, int, int, int]:
    return found.lost, found.duplicated, found.reordered, found.gaps


def test_sockets_that_saw_everything_in_order_are_fine() -> None:
    found = verdict([1, 2, 3], [1, 2, 3])
    assert counts(found) == (0, 0, 0, 0)
    assert (found.checked_rooms, found.checked_sockets) == (1, 2)
    assert found.examples == []


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([1, 3], (1, 0, 0, 0)),
        ([1, 2], (1, 0, 0, 0)),
        ([], (3, 0, 0, 0)),
        ([1, 2, 2, 3], (0, 1, 0, 0)),
        ([1, 3, 2], (0, 0, 1, 0)),
        ([1, 2, 3, 1], (0, 1, 0, 0)),
        ([3, 2, 1], (0, 0, 2, 0)),
    ],
)
def test_a_fault_on_one_socket_is_found_and_named(
    history: list[int], expected: tuple[int, int, int, int]
) -> None:
    found = verdict([1, 2, 3], history)
    assert counts(found) == expected
    assert found.examples and found.examples[0].startswith("r: ")


def test_a_number_that_nobody_was_shown_is_a_gap_and_not_a_loss() -> None:
    assert counts(verdict([1, 3], [1, 3])) == (0, 0, 0, 2)


def test_what_only_another_worker_saw_is_lost_here() -> None:
    assert counts(verdict([1, 2], top=4)) == (2, 0, 0, 0)


def test_one_number_with_two_meanings_is_found() -> None:
    room = Room("r")
    one, other = room.enter(0), room.enter(0)
    see(room, one, 1, "a")
    see(room, other, 1, "b")
    assert judge([room], {}).duplicated == 1


def test_one_message_with_two_numbers_is_found() -> None:
    room = Room("r")
    track = room.enter(0)
    see(room, track, 1, "a")
    room.add(Shown(2, "a", b""), repeated=True)
    track.see(2)
    assert judge([room], {}).duplicated == 1


def test_who_came_later_is_owed_nothing_from_before() -> None:
    room = Room("r")
    first = room.enter(0)
    see(room, first, 1)
    later = room.enter(1)
    see(room, first, 2)
    see(room, later, 2)
    assert judge([room], {}).violations == 0


def test_who_left_is_owed_nothing_after_but_what_it_missed_before_counts() -> None:
    room = Room("r")
    stays, leaves, faulty = room.enter(0), room.enter(0), room.enter(0)
    for track in (stays, leaves):
        see(room, track, 1)
        see(room, track, 2)
    see(room, faulty, 2)
    room.leave(leaves)
    room.leave(faulty)
    see(room, stays, 3)
    room.prune()
    found = judge([room], {})
    assert counts(found) == (1, 0, 0, 0)
    assert found.checked_sockets == 3


def test_what_the_server_said_is_not_kept_is_not_held_against_it() -> None:
    room = Room("r")
    witness, resumed = room.enter(0), room.enter(0)
    for seq in (1, 2, 3):
        see(room, witness, seq)
    resumed.skip(2)
    see(room, resumed, 3)
    assert judge([room], {}).violations == 0


def test_pruning_keeps_what_somebody_lacks_and_forgets_the_rest() -> None:
    room = Room("r")
    ahead, behind = room.enter(0), room.enter(0)
    for seq in range(1, 11):
        see(room, ahead, seq)
        if seq not in (4, 9, 10):
            see(room, behind, seq)
    room.prune()
    assert min(room.shown) == 4
    assert room.pruned == 3
    see(room, behind, 4)
    room.prune()
    assert sorted(room.shown) == [9, 10]
    assert not room.settled(10)
    see(room, behind, 9)
    see(room, behind, 10)
    assert room.settled(10)


def test_an_old_number_that_was_forgotten_is_still_a_duplicate() -> None:
    room = Room("r")
    track = room.enter(0)
    for seq in (1, 2, 3):
        see(room, track, seq)
    room.prune()
    see(room, track, 2)
    assert counts(judge([room], {})) == (0, 1, 0, 0)
    assert 2 not in room.shown


def test_a_jump_too_far_to_remember_is_still_counted_in_full() -> None:
    room = Room("r")
    track = room.enter(0)
    jump = MAX_MISSING + 500
    see(room, track, jump + 1)
    found = judge([room], {})
    assert found.lost + found.gaps == jump
    assert len(track.missing) == MAX_MISSING


def test_examples_are_few_however_much_is_wrong() -> None:
    found = verdict(*[[2]] * 50, list(range(1, 3)))
    assert found.lost == 50
    assert len(found.examples) == MAX_EXAMPLES


def evidence(ids: list[str], first: int = 1) -> Evidence:
    room = Room("r")
    track = room.enter(first - 1)
    for seq, message_id in enumerate(ids, first):
        see(room, track, seq, message_id)
        if seq % 3 == 0:
            room.prune()
    return room.evidence()


def test_workers_that_saw_the_same_agree_whenever_they_forgot_it() -> None:
    ids = [f"m{n}" for n in range(10)]
    unpruned = Room("r")
    track = unpruned.enter(0)
    for seq, message_id in enumerate(ids, 1):
        see(unpruned, track, seq, message_id)
    assert evidence(ids) == unpruned.evidence()
    assert compare([evidence(ids), unpruned.evidence()]).violations == 0


def test_workers_that_saw_other_messages_under_one_number_are_found() -> None:
    found = compare([evidence(["a", "b", "c"]), evidence(["a", "x", "c"])])
    assert found.duplicated == 1
    assert "r: " in found.examples[0]


def test_what_has_a_hole_proves_nothing_about_others() -> None:
    room = Room("r")
    track = room.enter(0)
    see(room, track, 1)
    see(room, track, 3)
    assert room.evidence().digest == ""
    assert compare([room.evidence(), evidence(["m1", "m2", "m3"])]).violations == 0


Sabotage = Callable[[list[int], int], list[int]]
_SABOTAGES: dict[str, Sabotage] = {
    "lost": lambda h, at: h[:at] + h[at + 1 :],
    "duplicated": lambda h, at: h[: at + 1] + h[at:],
    "reordered": lambda h, at: [*h[:at], *reversed(h[at : at + 2]), *h[at + 2 :]],
}


@given(
    length=st.integers(2, 60),
    sockets=st.integers(1, 5),
    prunes=st.integers(1, 20),
    data=st.data(),
)
def test_a_single_fault_anywhere_is_found_as_what_it_is(
    length: int, sockets: int, prunes: int, data: st.DataObject
) -> None:
    clean = list(range(1, length + 1))
    fault = data.draw(st.sampled_from(sorted(_SABOTAGES)))
    at = data.draw(st.integers(0, length - 2))
    room = Room("r")
    histories = [clean] * sockets + [_SABOTAGES[fault](clean, at)]
    tracks = [room.enter(0) for _ in histories]
    for step in range(length + 1):
        for track, history in zip(tracks, histories, strict=True):
            if step < len(history):
                see(room, track, history[step])
        if step % prunes == 0:
            room.prune()
    found = judge([room], {})
    assert {name: getattr(found, name) for name in (*_SABOTAGES, "gaps")} == {
        name: int(name == fault) for name in (*_SABOTAGES, "gaps")
    }


@given(st.lists(st.integers(1, 12), max_size=40))
def test_only_exactly_all_in_order_is_without_fault(history: list[int]) -> None:
    top = max(history, default=0)
    clean = history == list(range(1, top + 1))
    assert (verdict(history).violations == 0) is clean
