"""How many sockets an address and a login may have; and who left is forgotten."""

import pytest

from cfmessenger.errors import Unavailable
from gateway.live.capacity import Capacity


def entered(capacity: Capacity, address: str, login_id: str) -> bool:
    """One handshake more; whether there is room for it."""
    capacity.enter(address, login_id)
    try:
        capacity.check(address, login_id)
    except Unavailable as full:
        assert full.code == "AT_CAPACITY"
        return False
    return True


@pytest.mark.parametrize(
    ("capacity", "other"),
    [(Capacity(2, 0), ("b", "one")), (Capacity(0, 2), ("a", "other"))],
    ids=["address", "login"],
)
def test_so_many_and_no_more_until_one_leaves(
    capacity: Capacity, other: tuple[str, str]
) -> None:
    assert entered(capacity, "a", "one") and entered(capacity, "a", "one")
    assert not entered(capacity, "a", "one")
    assert entered(capacity, *other), "it is full for nobody else"
    capacity.leave("a", "one")
    capacity.leave("a", "one")
    assert entered(capacity, "a", "one")


def test_0_is_no_limit() -> None:
    capacity = Capacity(0, 0)
    assert all(entered(capacity, "a", "one") for _ in range(50))


def test_who_left_is_forgotten() -> None:
    capacity = Capacity(1, 1)
    entered(capacity, "a", "one")
    capacity.leave("a", "one")
    assert not capacity._addresses and not capacity._logins
