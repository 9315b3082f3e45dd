"""The verdict of a row names what is wrong with a log, and only that."""

from __future__ import annotations

import pytest

from cfmessenger.load.result import Oracle, Result
from tests.system.machines.load import Figures, Verdict
from tests.system.machines.worker import Noted

FINE = [(1, "a"), (2, "b"), (3, "c")]
SEEN = Oracle(lost=4, duplicated=1, reordered=2, gaps=3)


def judged(log: list[tuple[int, str]], seen: Oracle | None = None) -> Verdict:
    result = Result(scenario="churn", oracle=seen or Oracle())
    return Figures(result, Noted(acked={"r": ["a", "c"]})).judged({"r": log})


def test_what_was_acknowledged_and_is_in_the_log_is_fine() -> None:
    assert not any(judged(FINE))


@pytest.mark.parametrize(
    ("log", "wrong"),
    [
        ([(1, "a"), (2, "b")], "lost"),
        ([*FINE, (4, "c")], "doubled"),
        ([(1, "a"), (3, "c")], "holes"),
    ],
)
def test_a_log_that_lost_doubled_or_passed_over_something_is_found(
    log: list[tuple[int, str]], wrong: str
) -> None:
    found = judged(log)._asdict()
    assert {name for name, n in found.items() if n} == {wrong}


def test_what_sockets_saw_counts_too() -> None:
    assert judged(FINE, SEEN) == Verdict(
        lost=0, doubled=1, reordered=2, holes=3, unseen=4
    )
