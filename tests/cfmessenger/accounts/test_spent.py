"""What was ended or used up stays so, whatever an older copy of Valkey says."""

from collections.abc import AsyncIterator

import pytest
import valkey

from cfmessenger.accounts import spent as module
from cfmessenger.accounts.session_names import token_hash
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.accounts.spent import KEEP_S, Spent
from cfmessenger.accounts.tickets import Tickets
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_kept_for_ten_minutes() -> None:
    time = Time()
    spent = Spent(time)
    spent.end("login-1", "user_1")
    spent.use("key")
    time.now = KEEP_S - 1
    spent.end("login-2")
    assert spent.logins() == {"user_1": {"login-1"}}, "of the other nobody said whose"
    assert spent.marks() == {"key": 1.0}
    assert spent.ended("login-1")
    time.now = KEEP_S + 1
    assert (spent.logins(), spent.marks()) == ({}, {})
    assert not spent.ended("login-1")
    assert spent.ended("login-2")


def test_whose_it_was_may_be_told_later_and_is_not_forgotten() -> None:
    spent = Spent(Time())
    for user in ("", "user_1", ""):
        spent.end("login", user)
    assert spent.logins() == {"user_1": {"login"}}


def test_so_many_are_kept_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    spent = Spent(Time())
    for n in range(5):
        spent.end(f"login-{n}")
        spent.use(f"key-{n}")
    assert [n for n in range(5) if spent.ended(f"login-{n}")] == [2, 3, 4]
    assert [n for n in range(5) if spent.used(f"key-{n}")] == [2, 3, 4]
    spent.forgive("key-4")
    assert not spent.used("key-4")


@pytest.fixture
async def kv(valkey_url: str) -> AsyncIterator[Valkey]:
    kv = Valkey(valkey_url)
    yield kv
    kv.close()


def copy_of(admin: valkey.Valkey, *names: str) -> dict[str, bytes]:
    return {name: admin.dump(name) for name in names}


def come_back(admin: valkey.Valkey, copy: dict[str, bytes]) -> None:
    """As in a replica that had not heard of it yet."""
    for name, data in copy.items():
        admin.restore(name, 0, data, replace=True)


async def test_an_ended_session_that_comes_back_is_none_and_is_ended_again(
    kv: Valkey, admin_valkey: valkey.Valkey
) -> None:
    sessions = Sessions(kv, ttl_s=60)
    token, session = await sessions.create("user_spent", "")
    await sessions.restore()  # the server it begins with
    session_key = keys.session(token_hash(token))
    copy = copy_of(admin_valkey, session_key, keys.user_sessions("user_spent"))
    await sessions.logout(session)
    come_back(admin_valkey, copy)
    assert await sessions.get(token) is None
    stranger = Sessions(kv, ttl_s=60)  # a gateway that was not told
    assert await stranger.get(token) is not None

    sessions._lineage = "another"
    await sessions.restore()
    assert await stranger.get(token) is None
    assert not admin_valkey.exists(session_key)


async def test_a_used_ticket_that_comes_back_is_not_redeemed_by_anybody(
    kv: Valkey, admin_valkey: valkey.Valkey
) -> None:
    sessions = Sessions(kv, ttl_s=60)
    tickets = Tickets(kv, sessions)
    _, session = await sessions.create("user_ticket", "")
    await sessions.restore()
    ticket, _ = await tickets.draw(session)
    copy = copy_of(admin_valkey, keys.ticket(token_hash(ticket)))
    assert await tickets.redeem(ticket) is not None
    come_back(admin_valkey, copy)
    assert await tickets.redeem(ticket) is None

    come_back(admin_valkey, copy)
    sessions._lineage = "another"
    await sessions.restore()
    other = Sessions(kv, ttl_s=60)
    assert await Tickets(kv, other).redeem(ticket) is None
