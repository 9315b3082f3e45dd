"""What a running test shows is what its workers said, though some are late."""

import pytest

from cfmessenger.load.board import Board
from cfmessenger.load.result import Histogram, Phase, Progress, Second


def acks(*values: int) -> str:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram.encode()


def told(
    worker: int,
    t: int,
    *,
    phase: Phase = "measuring",
    sent: int = 0,
    done: float = 0.0,
    histogram: str | None = None,
) -> Progress:
    return Progress(
        worker=worker,
        second=Second(t=t, sent=sent, lag_us=10 * t),
        counts={"sent": sent},
        histogram=histogram,
        phase=phase,
        done=done,
    )


def sent(board: Board) -> list[tuple[str, int, int]]:
    return [(each.phase, each.second.t, each.second.sent) for each in board.seconds]


def test_a_second_is_shown_once_every_worker_told_it() -> None:
    board = Board(scenario="steady", workers=2)
    board.add(told(0, 0, sent=1))
    assert board.seconds == []
    board.add(told(1, 0, sent=2))
    assert sent(board) == [("measuring", 0, 3)]


def test_a_stuck_worker_holds_up_the_others_for_two_seconds_only() -> None:
    board = Board(scenario="steady", workers=2)
    for t in range(4):
        board.add(told(0, t, sent=1))
    assert [t for _, t, _ in sent(board)] == [0, 1]
    board.add(told(1, 0, sent=5))  # too late to be shown, or to be shown twice
    assert [t for _, t, _ in sent(board)] == [0, 1]
    board.add(told(1, 2, sent=5))
    assert sent(board)[-1] == ("measuring", 2, 6)


def test_seconds_start_anew_in_each_phase() -> None:
    board = Board(scenario="steady", duration_s=60, warmup_s=5)
    board.add(told(0, 0, phase="connecting"))
    assert (board.phase, board.phase_s) == ("connecting", 0)
    board.add(told(0, 0, phase="warm-up", done=0.2, histogram=acks(9)))
    assert (board.phase, board.phase_s, board.done) == ("warm-up", 5, 0.2)
    assert board.overall is None  # a warm-up's latencies are not measured
    board.add(told(0, 0, sent=7))
    assert board.phase_s == 60
    board.add(told(0, 0, phase="draining"))
    assert [phase for phase, _, _ in sent(board)] == [
        "connecting",
        "warm-up",
        "measuring",
        "draining",
    ]
    assert [second.sent for second in board.measured] == [7]


def test_the_test_is_as_far_as_its_slowest_worker() -> None:
    board = Board(scenario="steady", workers=2, duration_s=10)
    board.add(told(0, 5, done=0.5))
    board.add(told(1, 3, done=0.3))
    assert (board.phase, board.done) == ("measuring", 0.3)
    board.add(told(0, 0, phase="draining", done=1.0))
    assert (board.phase, board.done) == ("measuring", 0.3)
    board.add(told(1, 9, done=7.0))
    assert board.done == 1.0


def test_latencies_so_far_are_of_all_workers() -> None:
    board = Board(scenario="steady", workers=2)
    board.add(told(0, 0, histogram=acks(*[100] * 98)))
    board.add(told(1, 0, histogram=acks(900, 950)))
    assert board.overall == (100, 900, 950)
    board.add(told(1, 1, histogram=acks()))
    assert board.overall == (100, 900, 950)


def test_counts_are_the_latest_of_each_worker() -> None:
    board = Board(scenario="steady", workers=2)
    for t, n in ((0, 5), (1, 9)):
        board.add(told(0, t, sent=n))
    board.add(told(1, 0, sent=1))
    assert board.counts == {"sent": 10}
    assert board.max_lag_us == 10


def test_before_anything_is_told_it_connects() -> None:
    board = Board(scenario="steady")
    assert (board.phase, board.done, board.counts) == ("connecting", 0.0, {})


def test_a_histogram_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not an HDR histogram"):
        Board(scenario="steady").add(told(0, 0, histogram="nonsense"))
