"""When a room is hot, and when it is calm."""

import pytest

from actors.heat import Heat, Limits

LIMITS = Limits(hot_share=0.1, hot_hold_s=0.05)


def looked(*busy_s: float, hold_s: float = 0.0) -> Heat:
    """After looks half a second apart, busy for so long before each."""
    heat = Heat(0.0)
    for n, busy in enumerate(busy_s, 1):
        pieces = [hold_s] if hold_s and busy else []
        for piece in [*pieces, *[0.001] * round((busy - sum(pieces)) * 1000)]:
            heat.took(piece)
        heat.look(n * 0.5, 0.5, LIMITS)
    return heat


@pytest.mark.parametrize(
    ("busy_s", "hot"),
    [
        ((0.06, 0.06), True),
        ((0.06,), False),  # a moment is nothing
        ((0.06, 0.0, 0.06, 0.0, 0.06), True),  # every second look
        ((0.06, 0.0, 0.0, 0.0, 0.0, 0.06), False),
        ((0.04,) * 20, False),
    ],
)
def test_a_share_makes_hot(busy_s: tuple[float, ...], hot: bool) -> None:
    assert looked(*busy_s).hot is hot


def test_so_does_what_others_wait_for_at_a_time() -> None:
    # 6 % of the time, which is no share to mention, but all of it at once.
    assert not looked(0.03, 0.03).hot
    assert looked(0.05, 0.05, hold_s=0.05).hot


def test_who_is_alone_keeps_nobody_waiting() -> None:
    heat = Heat(0.0)
    for n in (1, 2):
        heat.took(0.05)  # 5 % of a second, at once
        heat.look(n, 1.0, LIMITS, alone=True)
    assert not heat.hot


def test_calm_is_well_below_hot() -> None:
    near = looked(0.06, 0.06, 0.02, 0.02)
    assert near.calm_since == 2.0, "2 % in half a second, and hot is at 10"
    assert looked(0.06, 0.06, 0.01, 0.01).calm_since == 1.0


def test_a_share_of_nothing_means_never() -> None:
    heat = Heat(0.0)
    heat.took(0.5)
    heat.look(0.5, 0.5, Limits())
    heat.took(0.5)
    heat.look(1.0, 0.5, Limits())
    assert not heat.hot
    assert heat.share == pytest.approx(0.75)
