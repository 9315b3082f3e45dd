"""When an object may leave a mirror, and what may be believed of it."""

import pytest

from actors.mirrors import COMPLETE_AFTER_S, SOON_MS, at_rest, believable

NOW = 1_000_000


@pytest.mark.parametrize("reason", ["idle", "moved", "shutting_down"])
def test_nothing_unconfirmed_is_ever_mirrored(reason: str) -> None:
    assert not at_rest(reason, False, None, NOW)
    assert at_rest(reason, True, None, NOW)


def test_who_moves_waits_for_an_alarm_that_is_due_at_once() -> None:
    assert not at_rest("moved", True, NOW + SOON_MS, NOW)
    assert at_rest("moved", True, NOW + SOON_MS + 1, NOW)
    assert at_rest("shutting_down", True, NOW, NOW), "whoever shuts down does not"


def test_a_roster_soon_after_a_crash_is_not_believed() -> None:
    for reason in ("moved", "shutting_down"):
        assert not believable(reason, True, COMPLETE_AFTER_S - 0.1)
        assert believable(reason, True, COMPLETE_AFTER_S)
        assert believable(reason, False, 0.0)
    assert believable("idle", True, 0.0), "nobody came for as long as it takes to sleep"
