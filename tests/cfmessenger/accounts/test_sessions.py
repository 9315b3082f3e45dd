"""Sessions and tickets against a real Valkey: life, refresh, logout, revalidation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from valkey import Valkey as Admin

from cfmessenger.accounts import sessions as module
from cfmessenger.accounts.sessions import REVOKED_CHANNEL, Session, Sessions, token_hash
from cfmessenger.accounts.tickets import Tickets
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from tests import patience

TTL_MS = 1_200_000


class Time:
    """Starts at Valkey's own time, since Valkey drops keys by its own."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()


@pytest.fixture
async def clock(kv: Valkey) -> Time:
    seconds, micros = await kv.ask("TIME")
    return Time(int(seconds) * 1000 + int(micros) // 1000)


@pytest.fixture
def sessions(kv: Valkey, clock: Time) -> Sessions:
    return Sessions(kv, ttl_s=TTL_MS / 1000, clock=clock)


@asynccontextmanager
async def listening(kv: Valkey) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """What is published of logins that ended, one at a time."""
    heard = kv.listen(REVOKED_CHANNEL)
    assert await anext(heard) is None

    async def one() -> str:
        async with patience.within(10):
            told = await anext(heard)
        assert told is not None
        return told[1]

    yield one
    await heard.aclose()


async def test_a_token_is_random_and_valkey_never_sees_it(
    admin_valkey: Admin, sessions: Sessions, clock: Time
) -> None:
    made = [await sessions.create("user_1", "uk") for _ in range(50)]
    tokens = {token for token, _ in made}
    assert len(tokens) == 50
    assert all(len(token) == 43 for token in tokens)
    assert len({session.login_id for _, session in made}) == 50
    for name in admin_valkey.keys("*"):
        kind = admin_valkey.type(name)
        read = (name, 0, -1) if kind == b"zset" else (name,)
        ask_for = admin_valkey.zrange if kind == b"zset" else admin_valkey.hgetall
        everything = repr(name) + repr(ask_for(*read))
        assert not any(token in everything for token in tokens)


async def test_a_session_is_what_was_created(sessions: Sessions, clock: Time) -> None:
    token, session = await sessions.create("user_1", "de")
    assert await sessions.get(token) == session
    assert session == Session(
        user_id="user_1",
        login_id=session.login_id,
        token_hash=token_hash(token),
        started_at=clock.now,
        expires_at=clock.now + TTL_MS,
        nonce=session.nonce,
        location_hint="de",
    )


@pytest.mark.parametrize(
    "token", ["", "x", "A" * 43, "A" * 42, "A" * 43 + "\n", "é" * 43]
)
async def test_what_we_never_issued_is_no_session(
    sessions: Sessions, token: str
) -> None:
    assert await sessions.get(token) is None
    assert await sessions.refresh(token) is None


async def test_idle_for_twenty_minutes(sessions: Sessions, clock: Time) -> None:
    token, _ = await sessions.create("user_1", "uk")
    clock.now += TTL_MS - 1_000
    assert await sessions.get(token) is not None
    clock.now += 1_000
    assert await sessions.get(token) is None


async def test_valkey_forgets_a_session_when_it_ends(kv: Valkey) -> None:
    sessions = Sessions(kv, ttl_s=0.05)
    _, session = await sessions.create("user_1", "uk")
    await asyncio.sleep(0.06)
    assert await kv.ask("HGETALL", keys.session(session.token_hash)) == []


async def test_use_slides_it_but_writes_a_twentieth_at_most(
    admin_valkey: Admin, sessions: Sessions, clock: Time
) -> None:
    token, session = await sessions.create("user_1", "uk")
    clock.now += TTL_MS // 20 - 1
    assert await sessions.slide(session) is session
    clock.now += 1
    longer = await sessions.slide(session)
    assert longer is not None
    assert longer.expires_at == clock.now + TTL_MS
    assert await sessions.get(token) == longer
    ends = ("HPEXPIRETIME", keys.session(session.token_hash), "FIELDS", 1, "userId")
    assert admin_valkey.execute_command(*ends) == [longer.expires_at]


async def test_twelve_hours_are_the_end_whatever_happens(
    sessions: Sessions, clock: Time
) -> None:
    token, session = await sessions.create("user_1", "uk")
    end = session.started_at + 12 * 3600 * 1000
    current: Session | None = session
    while clock.now < end - TTL_MS // 2:
        clock.now += TTL_MS // 2
        assert current is not None
        current = await sessions.slide(current)
    assert current is not None and current.expires_at == end
    refreshed = await sessions.refresh(token)
    assert refreshed is not None and refreshed[1].expires_at == end
    assert refreshed[1].started_at == session.started_at
    clock.now = end - 1
    assert await sessions.get(refreshed[0]) is not None
    clock.now = end
    assert await sessions.get(refreshed[0]) is None


async def test_a_record_that_valkey_kept_too_long_is_dead_all_the_same(
    kv: Valkey, admin_valkey: Admin, sessions: Sessions, clock: Time
) -> None:
    token, session = await sessions.create("user_1", "uk")
    key = keys.session(session.token_hash)
    persist = ("HPERSIST", key, "FIELDS", 2, "userId", "expiresAt")
    admin_valkey.execute_command(*persist)
    clock.now = session.expires_at
    assert await sessions.get(token) is None
    # And one that is not whole (some fields ran out) is none.
    clock.now = session.started_at
    await kv.ask("HDEL", key, "nonce")
    assert await sessions.get(token) is None


async def test_sliding_never_brings_a_session_back(
    kv: Valkey, sessions: Sessions, clock: Time
) -> None:
    token, session = await sessions.create("user_1", "uk")
    await sessions.logout(session)
    clock.now += TTL_MS // 2
    assert await sessions.slide(session) is None
    assert await sessions.get(token) is None
    assert await kv.ask("EXISTS", keys.session(session.token_hash)) == 0


async def test_refresh_moves_it_and_keeps_the_login(
    kv: Valkey, sessions: Sessions, clock: Time
) -> None:
    old, session = await sessions.create("user_1", "uk")
    clock.now += 1_000
    refreshed = await sessions.refresh(old)
    assert refreshed is not None
    new, moved = refreshed
    assert await sessions.get(old) is None
    assert await sessions.refresh(old) is None
    assert await sessions.get(new) == moved
    assert moved == msgspec.structs.replace(
        session,
        token_hash=token_hash(new),
        expires_at=clock.now + TTL_MS,
        nonce=moved.nonce,
    )
    assert moved.nonce != session.nonce
    assert len(await kv.ask("ZRANGE", keys.user_sessions("user_1"), 0, -1)) == 1


async def test_of_many_refreshes_at_once_one_wins(
    kv: Valkey, sessions: Sessions
) -> None:
    old, _ = await sessions.create("user_1", "uk")
    results = await asyncio.gather(*(sessions.refresh(old) for _ in range(20)))
    won = [result for result in results if result is not None]
    assert len(won) == 1
    assert await sessions.get(won[0][0]) == won[0][1]
    assert len(await kv.ask("ZRANGE", keys.user_sessions("user_1"), 0, -1)) == 1


async def test_sliding_with_what_was_known_before_a_refresh_follows_it(
    sessions: Sessions, clock: Time
) -> None:
    old, session = await sessions.create("user_1", "uk")
    refreshed = await sessions.refresh(old)
    assert refreshed is not None
    clock.now += TTL_MS // 2
    assert await sessions.slide(session) == refreshed[1]
    assert await sessions.get(old) is None


async def test_logout_ends_one_login_under_whatever_token_and_says_so(
    kv: Valkey, sessions: Sessions, empty_valkey: str
) -> None:
    old, session = await sessions.create("user_1", "uk")
    other, another = await sessions.create("user_1", "uk")
    refreshed = await sessions.refresh(old)
    assert refreshed is not None
    async with listening(kv) as heard:
        await sessions.logout(session)  # what it knows is the old token's session
        assert await heard() == session.login_id
    assert await sessions.get(refreshed[0]) is None
    assert await sessions.get(other) == another
    assert len(await kv.ask("ZRANGE", keys.user_sessions("user_1"), 0, -1)) == 1


async def test_logout_against_refresh_leaves_nothing_alive(
    kv: Valkey, sessions: Sessions
) -> None:
    for _ in range(30):
        token, session = await sessions.create("user_1", "uk")
        refreshed, _ = await asyncio.gather(
            sessions.refresh(token), sessions.logout(session)
        )
        assert await sessions.get(token) is None
        if refreshed is not None:
            assert await sessions.get(refreshed[0]) is None


async def test_revalidate_tells_living_moved_and_ended_apart(
    sessions: Sessions, clock: Time
) -> None:
    kept, alive = await sessions.create("user_1", "uk")
    old, moved = await sessions.create("user_2", "uk")
    _, ended = await sessions.create("user_3", "uk")
    _, twin = await sessions.create("user_2", "uk")
    refreshed = await sessions.refresh(old)
    await sessions.logout(ended)
    assert refreshed is not None
    assert await sessions.revalidate([alive, moved, ended, twin]) == {
        alive.login_id: alive,
        moved.login_id: refreshed[1],
        ended.login_id: None,
        twin.login_id: twin,
    }
    assert await sessions.revalidate([]) == {}
    clock.now += TTL_MS
    assert set((await sessions.revalidate([alive, twin])).values()) == {None}


async def test_a_crowd_is_looked_at_some_at_a_time(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    crowd = [(await sessions.create(f"user_{n}", "uk"))[1] for n in range(5)]
    await sessions.logout(crowd[3])
    found = await sessions.revalidate(crowd)
    assert found == {
        each.login_id: None if each is crowd[3] else each for each in crowd
    }


async def test_a_replica_that_lags_ends_nobody(kv: Valkey, empty_valkey: str) -> None:
    # Another database of the same server knows nothing of ours, like a replica that
    # has not caught up.
    replica = Valkey(f"{empty_valkey}?db=1")
    sessions = Sessions(kv, ttl_s=60, replica=replica)
    _, session = await sessions.create("user_1", "uk")
    assert await sessions.revalidate([session]) == {session.login_id: session}
    replica.close()


async def test_dead_tokens_are_not_remembered_for_ever(
    kv: Valkey, admin_valkey: Admin, sessions: Sessions, clock: Time
) -> None:
    index = keys.user_sessions("user_1")
    for n in range(40):
        await kv.ask("ZADD", index, clock.now - n, f"login{n}.{n:064x}")
    token, session = await sessions.create("user_1", "uk")
    assert await kv.ask("ZRANGE", index, 0, -1) == [
        f"{session.login_id}.{session.token_hash}".encode()
    ]
    assert await sessions.get(token) == session
    assert admin_valkey.pttl(index) > 11 * 3600 * 1000


async def test_one_login_too_many_ends_the_one_that_was_used_longest_ago(
    kv: Valkey, clock: Time
) -> None:
    few = Sessions(kv, ttl_s=TTL_MS / 1000, most=3, clock=clock)
    tokens = []
    for _ in range(3):
        clock.now += 1000
        tokens.append((await few.create("user_1", "uk"))[0])
    other, _ = await few.create("user_2", "uk")
    clock.now += TTL_MS // 2
    first = await few.get(tokens[0])
    second = await few.get(tokens[1])
    assert first is not None and second is not None
    assert await few.slide(first) is not None  # it is in use
    async with listening(kv) as heard:
        tokens.append((await few.create("user_1", "uk"))[0])
        assert await few.get(tokens[1]) is None
        assert await heard() == second.login_id  # its sockets close as for a logout
    assert await few.slide(second) is None
    for token in (tokens[0], tokens[2], tokens[3], other):
        assert await few.get(token) is not None


async def test_a_refresh_makes_no_room_and_takes_none(kv: Valkey, clock: Time) -> None:
    few = Sessions(kv, ttl_s=TTL_MS / 1000, most=2, clock=clock)
    tokens = [(await few.create("user_1", "uk"))[0] for _ in range(2)]
    for _ in range(5):
        clock.now += 1000
        fresh = await few.refresh(tokens[0])
        assert fresh is not None
        tokens[0] = fresh[0]
    assert [await few.get(token) is not None for token in tokens] == [True, True]
    await few.create("user_1", "uk")
    assert [await few.get(token) is not None for token in tokens] == [True, False]


async def test_of_many_logins_at_once_exactly_so_many_live(
    kv: Valkey, clock: Time
) -> None:
    few = Sessions(kv, ttl_s=TTL_MS / 1000, most=5, clock=clock)
    made = await asyncio.gather(*(few.create("user_1", "uk") for _ in range(40)))
    alive = [await few.get(token) is not None for token, _ in made]
    assert sum(alive) == 5
    assert len(await kv.ask("ZRANGE", keys.user_sessions("user_1"), 0, -1)) == 5


async def test_a_login_among_very_many_asks_no_more_than_among_few(
    kv: Valkey, sessions: Sessions, admin_valkey: Admin, clock: Time
) -> None:
    """Commands are counted, and what they answer: a clock would count the machine."""
    costs = []
    for others in (1, 3000):
        index = keys.user_sessions(f"user_{others}")
        members = {f"login{n}.{n:064x}": clock.now + 1000 for n in range(others)}
        admin_valkey.zadd(index, members)
        before = admin_valkey.info("stats")
        await sessions.create(f"user_{others}", "uk")
        after = admin_valkey.info("stats")
        names = ("total_commands_processed", "total_net_output_bytes")
        costs.append([after[name] - before[name] for name in names])
    assert costs[0][0] == costs[1][0]
    assert abs(costs[0][1] - costs[1][1]) < 1000  # INFO's own figures have grown


async def test_a_ticket_is_good_once_and_only_before_a_refresh(
    kv: Valkey, admin_valkey: Admin, sessions: Sessions
) -> None:
    tickets = Tickets(kv, sessions)
    token, session = await sessions.create("user_1", "uk")
    ticket, expires_at = await tickets.draw(session)
    assert 0 < admin_valkey.pttl(keys.ticket(token_hash(ticket))) <= 30_000
    answers = await asyncio.gather(*(tickets.redeem(ticket) for _ in range(10)))
    assert [answer for answer in answers if answer is not None] == [session]

    early, _ = await tickets.draw(session)
    assert await sessions.refresh(token) is not None
    assert await tickets.redeem(early) is None
    assert await tickets.redeem("nonsense") is None
    assert await tickets.redeem("A" * 43) is None


async def test_a_ticket_ends_and_dies_with_its_session(
    kv: Valkey, sessions: Sessions
) -> None:
    tickets = Tickets(kv, sessions, ttl_ms=20)
    _, session = await sessions.create("user_1", "uk")
    ticket, _ = await tickets.draw(session)
    await asyncio.sleep(0.03)
    assert await tickets.redeem(ticket) is None

    ticket, _ = await Tickets(kv, sessions).draw(session)
    await sessions.logout(session)
    assert await tickets.redeem(ticket) is None


async def test_a_nonce_that_changed_spoils_a_ticket(
    kv: Valkey, sessions: Sessions
) -> None:
    _, session = await sessions.create("user_1", "uk")
    tickets = Tickets(kv, sessions)
    ticket, _ = await tickets.draw(msgspec.structs.replace(session, nonce="other"))
    assert await tickets.redeem(ticket) is None


async def test_without_valkey_it_is_unavailable_not_expired() -> None:
    kv = Valkey("unix:///nowhere/at/all")
    sessions = Sessions(kv, ttl_s=60)
    session = Session("u", "l", "h", 0, 0, "n", "uk")
    for attempt in (
        sessions.create("user_1", "uk"),
        sessions.get("A" * 43),
        sessions.slide(session),
        sessions.refresh("A" * 43),
        sessions.logout(session),
        sessions.revalidate([session]),
        Tickets(kv, sessions).draw(session),
        Tickets(kv, sessions).redeem("A" * 43),
    ):
        with pytest.raises(Unavailable):
            await attempt
