"""Sessions and tickets against a real Valkey: life, refresh, logout, revalidation."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any, NamedTuple

import msgspec
import pytest
import valkey
from valkey import ValkeyCluster as ClusterAdmin

from cfmessenger.accounts import sessions as module
from cfmessenger.accounts.session_names import tag_of, token_hash
from cfmessenger.accounts.session_record import Session
from cfmessenger.accounts.sessions import REVOKED_CHANNEL, Sessions
from cfmessenger.accounts.tickets import Tickets
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.valkey_cluster import ValkeyCluster

TTL_MS = 1_200_000


class Time:
    """Starts at Valkey's own time, since Valkey drops keys by its own."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Storage(NamedTuple):
    """Where sessions are kept, with nothing in it, and its administrator."""

    url: str
    admin: Any


@pytest.fixture(params=["one server", "a cluster"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Each promise of sessions is one of both."""
    if request.param == "one server":
        url = request.getfixturevalue("empty_valkey")
        yield Storage(url, request.getfixturevalue("admin_valkey"))
        return
    cluster: ValkeyCluster = request.getfixturevalue("valkey_cluster")
    cluster.clear()
    with closing(cluster.admin()) as admin:
        yield Storage(cluster.url, admin)


@pytest.fixture
def admin(storage: Storage) -> Any:
    return storage.admin


@pytest.fixture
async def kv(storage: Storage) -> AsyncIterator[Valkey]:
    client = Valkey(storage.url)
    yield client
    client.close()


@pytest.fixture
async def clock(kv: Valkey) -> Time:
    return Time(await kv.time("cfm:x"))


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
    admin: Any, sessions: Sessions, clock: Time
) -> None:
    made = [await sessions.create("user_1", "uk") for _ in range(50)]
    tokens = {token for token, _ in made}
    assert len(tokens) == 50
    assert all(len(token) == 43 for token in tokens)
    assert len({session.login_id for _, session in made}) == 50
    for name in admin.keys("*"):
        kind = admin.type(name)
        read = (name, 0, -1) if kind == b"zset" else (name,)
        ask_for = admin.zrange if kind == b"zset" else admin.hgetall
        everything = repr(name) + repr(ask_for(*read))
        assert not any(token in everything for token in tokens)


async def test_a_session_is_what_was_created(sessions: Sessions, clock: Time) -> None:
    token, session = await sessions.create("user_1", "de")
    assert await sessions.get(token) == session
    assert session == Session(
        user_id="user_1",
        login_id=session.login_id,
        token_hash=sessions._names.named(token),
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
    admin: Any, sessions: Sessions, clock: Time
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
    assert admin.execute_command(*ends) == [longer.expires_at]


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
    kv: Valkey, admin: Any, sessions: Sessions, clock: Time
) -> None:
    token, session = await sessions.create("user_1", "uk")
    key = keys.session(session.token_hash)
    persist = ("HPERSIST", key, "FIELDS", 2, "userId", "expiresAt")
    admin.execute_command(*persist)
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
        token_hash=sessions._names.named(new),
        expires_at=clock.now + TTL_MS,
        nonce=moved.nonce,
    )
    assert moved.nonce != session.nonce
    assert len(await kv.ask("ZRANGE", sessions._names.index("user_1"), 0, -1)) == 1


async def test_of_many_refreshes_at_once_one_wins(
    kv: Valkey, sessions: Sessions
) -> None:
    old, _ = await sessions.create("user_1", "uk")
    results = await asyncio.gather(*(sessions.refresh(old) for _ in range(20)))
    won = [result for result in results if result is not None]
    assert len(won) == 1
    assert await sessions.get(won[0][0]) == won[0][1]
    assert len(await kv.ask("ZRANGE", sessions._names.index("user_1"), 0, -1)) == 1


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
    kv: Valkey, sessions: Sessions
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
    assert len(await kv.ask("ZRANGE", sessions._names.index("user_1"), 0, -1)) == 1


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


async def test_a_replica_that_lags_ends_nobody(empty_valkey: str) -> None:
    # Another database of the same server knows nothing of ours, like a replica that
    # has not caught up.
    kv, replica = Valkey(empty_valkey), Valkey(f"{empty_valkey}?db=1")
    sessions = Sessions(kv, ttl_s=60, replica=replica)
    _, session = await sessions.create("user_1", "uk")
    assert await sessions.revalidate([session]) == {session.login_id: session}
    replica.close()
    kv.close()


async def test_dead_tokens_are_not_remembered_for_ever(
    kv: Valkey, admin: Any, sessions: Sessions, clock: Time
) -> None:
    index = sessions._names.index("user_1")
    for n in range(40):
        await kv.ask("ZADD", index, clock.now - n, f"login{n}.{n:064x}")
    token, session = await sessions.create("user_1", "uk")
    assert await kv.ask("ZRANGE", index, 0, -1) == [
        f"{session.login_id}.{session.token_hash}".encode()
    ]
    assert await sessions.get(token) == session
    assert admin.pttl(index) > 11 * 3600 * 1000


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
    assert len(await kv.ask("ZRANGE", few._names.index("user_1"), 0, -1)) == 5


def _stats(admin: Any) -> Counter[str]:
    """Of all servers together."""
    found: Counter[str] = Counter()
    if isinstance(admin, ClusterAdmin):
        said = admin.info("stats", target_nodes=ClusterAdmin.PRIMARIES).values()
    else:
        said = [admin.info("stats")]
    for each in said:
        found.update({k: v for k, v in each.items() if isinstance(v, int)})
    return found


async def test_a_login_among_very_many_asks_no_more_than_among_few(
    kv: Valkey, sessions: Sessions, admin: Any, clock: Time
) -> None:
    """Commands are counted, and what they answer: a clock would count the machine."""
    costs = []
    await kv.ask_all(*(("GET", f"cfm:{n}") for n in range(50)))  # all are connected
    _stats(admin)
    for others in (1, 3000):
        index = sessions._names.index(f"user_{others}")
        members = {f"login{n}.{n:064x}": clock.now + 1000 for n in range(others)}
        admin.zadd(index, members)
        before = _stats(admin)
        await sessions.create(f"user_{others}", "uk")
        after = _stats(admin)
        names = ("total_commands_processed", "total_net_output_bytes")
        costs.append([after[name] - before[name] for name in names])
    assert costs[0][0] == costs[1][0]
    assert abs(costs[0][1] - costs[1][1]) < 1000  # INFO's own figures have grown


async def test_a_ticket_is_good_once_and_only_before_a_refresh(
    kv: Valkey, admin: Any, sessions: Sessions
) -> None:
    tickets = Tickets(kv, sessions)
    token, session = await sessions.create("user_1", "uk")
    ticket, expires_at = await tickets.draw(session)
    assert 0 < admin.pttl(keys.ticket(token_hash(ticket))) <= 30_000
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


# A Valkey Cluster: names with tags, and what was copied there from one server.


@pytest.fixture
async def both(
    empty_valkey: str, valkey_cluster: ValkeyCluster
) -> AsyncIterator[tuple[Sessions, Sessions, Callable[[], Awaitable[None]]]]:
    """Sessions on one server and on a cluster; and an operator who copies all keys."""
    valkey_cluster.clear()
    one, many = Valkey(empty_valkey), Valkey(valkey_cluster.url)

    async def copy() -> None:
        seconds = 600
        source = valkey.Valkey.from_url(empty_valkey.replace("cfm:tests@", "admin:-@"))
        with closing(source), closing(valkey_cluster.admin()) as target:
            for name in source.keys("*"):
                left = max(0, source.pttl(name)) or seconds * 1000
                target.execute_command("RESTORE", name, left, source.dump(name))

    yield Sessions(one, ttl_s=600), Sessions(many, ttl_s=600), copy
    one.close()
    many.close()


Both = tuple[Sessions, Sessions, Callable[[], Awaitable[None]]]


async def test_a_token_begins_with_its_users_tag_and_is_as_random_as_it_is_long(
    valkey_cluster: ValkeyCluster,
) -> None:
    kv = Valkey(valkey_cluster.url)
    sessions = Sessions(kv, ttl_s=60)
    made = [(await sessions.create("user_1", "uk"))[0] for _ in range(30)]
    assert {token[:4] for token in made} == {tag_of("user_1")}
    assert len({token[4:] for token in made}) == 30
    assert all(len(token) == 43 for token in made)
    fresh = await sessions.refresh(made[0])
    assert fresh is not None and fresh[0][:4] == tag_of("user_1")
    assert len({tag_of(f"user_{n}") for n in range(1000)}) > 990
    names = [keys.session(fresh[1].token_hash), sessions._names.index("user_1")]
    assert {valkey_cluster.owner(name).port for name in names} == {
        valkey_cluster.owner(f"{{{tag_of('user_1')}}}").port
    }
    kv.close()


async def test_what_was_copied_to_a_cluster_lives_on_and_gets_a_tag(
    both: Both,
) -> None:
    one, many, copy = both
    token, session = await one.create("user_1", "uk")
    other, another = await one.create("user_1", "uk")
    await copy()
    assert await many.get(token) == session
    longer = await many.slide(msgspec.structs.replace(session, expires_at=0))
    assert longer is not None and longer.token_hash == token_hash(token)
    assert await many.revalidate([session, another]) == {
        session.login_id: longer,
        another.login_id: another,
    }
    tickets = Tickets(many._kv, many)
    ticket, _ = await tickets.draw(longer)
    assert await tickets.redeem(ticket) == longer

    refreshed = await many.refresh(token)
    assert refreshed is not None
    fresh, moved = refreshed
    assert fresh[:4] == tag_of("user_1") and moved.login_id == session.login_id
    assert await many.get(fresh) == moved
    assert await many.get(token) is None
    assert await many.refresh(token) is None
    assert (await many.revalidate([session]))[session.login_id] == moved
    assert await many.get(other) == another
    assert await many._kv.ask("ZRANGE", many._names.index("user_1", True), 0, -1) == [
        f"{another.login_id}.{another.token_hash}".encode()
    ]


async def test_of_many_refreshes_of_a_copied_session_one_wins(both: Both) -> None:
    one, many, copy = both
    token, session = await one.create("user_1", "uk")
    await copy()
    results = await asyncio.gather(*(many.refresh(token) for _ in range(20)))
    won = [result for result in results if result is not None]
    assert len(won) == 1
    assert await many.get(won[0][0]) == won[0][1]
    members = await many._kv.ask("ZRANGE", many._names.index("user_1"), 0, -1)
    assert members == [f"{session.login_id}.{won[0][1].token_hash}".encode()]
    lost = [
        name
        for name in await _names(many)
        if b"session" in name and won[0][1].token_hash.encode() not in name
    ]
    assert lost == []


async def _names(sessions: Sessions) -> list[bytes]:
    found = []
    for each in (await sessions._kv.primaries()).values():
        url = each._url.replace("cfm:tests@", "admin:-@")
        with closing(valkey.Valkey.from_url(url)) as server:
            found += server.keys("*")
        each.close()
    return found


async def test_logout_against_refresh_of_a_copied_session_leaves_nothing_alive(
    both: Both,
) -> None:
    one, many, copy = both
    made = [await one.create(f"user_{n}", "uk") for n in range(30)]
    await copy()
    for token, session in made:
        refreshed, _ = await asyncio.gather(many.refresh(token), many.logout(session))
        assert await many.get(token) is None
        if refreshed is not None:
            assert await many.get(refreshed[0]) is None
        assert (await many.revalidate([session]))[session.login_id] is None


async def test_logout_of_a_copied_session_is_said_and_leaves_the_other(
    both: Both,
) -> None:
    one, many, copy = both
    token, session = await one.create("user_1", "uk")
    other, another = await one.create("user_1", "uk")
    await copy()
    async with listening(many._kv) as heard:
        await many.logout(session)
        assert await heard() == session.login_id
    assert await many.get(token) is None
    assert await many.get(other) == another


def test_names_on_one_server_are_what_they_were(empty_valkey: str) -> None:
    with closing(Valkey(empty_valkey)) as kv:
        sessions = Sessions(kv, ttl_s=60)
        assert sessions._names.named("t" * 43) == hashlib.sha256(b"t" * 43).hexdigest()
        assert sessions._names.index("user_1") == "cfm:logins:user_1"
