"""A real primary dies, and a replica that lags takes its place: what people were shown
is there, for the process that said it still has it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import valkey

from actors.healing import Healed, heal, remember
from actors.host import Host
from actors.host_settings import HostSettings
from actors.loading import take
from actors.pace import Pace
from actors.tail import Tails
from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_id_of
from cfmessenger.link import messages as link
from cfmessenger.storage import keys
from cfmessenger.storage.log import Commit, Entry, Fenced, ValkeyLog
from cfmessenger.storage.resp import Connection
from cfmessenger.wire import protocol
from cfmessenger.wire.events import ChatMessage
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import fresh_room, register
from tests.conftest import ADMIN, own_valkey, url_of
from tests.valkey_proxy import Proxy, proxied

NOW = 1_000_000


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    yield log
    log.close()


def events(first: int, last: int) -> list[tuple[int, bytes]]:
    return [
        (n, b'{"timestamp":%d,"seq":%d}' % (NOW, n)) for n in range(first, last + 1)
    ]


def keeping() -> Tails:
    tails = Tails(10.0)
    tails.keeping = True
    return tails


async def test_a_log_gets_back_what_it_lost_under_a_new_epoch(log: ValkeyLog) -> None:
    """In transactions that are all or nothing, with numbers and bytes as they were."""
    name, tails = fresh_room(), keeping()
    tail = tails.of(name)
    await log.activate(name)
    await log.commit([Commit(name, 1, events(1, 700))])
    tails.committed(tail, 1, events(1, 700))
    tails.committed(tail, 1, events(701, 3000))  # which a failover has lost
    tail.took(4)  # and three epochs with it
    found = await take(name, log, own=tail.epoch)
    assert (found.epoch, found.previous_epoch) == (5, 4)
    healed = await heal(name, log, tail, found)
    assert (healed.torn, healed.found.seq) == (0, 3000)
    kept = [*await log.after(name, 0, 2000), *await log.after(name, 2000, 2000)]
    assert [(each.seq, each.event) for each in kept] == events(1, 3000)
    assert {each.epoch for each in kept} == {1, 5}
    assert tail.last == Entry(5, *events(3000, 3000)[0])


async def test_where_another_has_spoken_nothing_is_appended(log: ValkeyLog) -> None:
    name, tails = fresh_room(), keeping()
    tail = tails.of(name)
    await log.activate(name)
    tails.committed(tail, 1, events(1, 9))
    await log.commit([Commit(name, 1, [*events(1, 4), (5, b"theirs"), (6, b"too")])])
    found = await take(name, log, own=1)
    healed = await heal(name, log, tail, found)
    assert (healed.torn, healed.shown) == (5, 9)
    assert len(await log.after(name, 0, 100)) == 6


async def test_what_went_on_after_ours_is_nothing_to_heal(log: ValkeyLog) -> None:
    name, tails = fresh_room(), keeping()
    tail = tails.of(name)
    await log.activate(name)
    await log.commit([Commit(name, 1, events(1, 9))])
    tails.committed(tail, 1, events(1, 4))
    found = await take(name, log, own=1)
    assert await heal(name, log, tail, found) == Healed(found)


async def test_who_comes_remembers_the_end_of_the_log(log: ValkeyLog) -> None:
    """It was committed by another, who has moved or died, a moment ago."""
    name, tails = fresh_room(), keeping()
    await log.activate(name)
    await log.commit([Commit(name, 1, events(1, 1500))])
    found = await take(name, log)
    await remember(name, log, tails, found, NOW + 5000)
    assert tails.of(name).after(0) == events(1, 1500)
    await remember(fresh_room(), log, tails, found, NOW)
    later = keeping()
    await remember(name, log, later, found, NOW + 20_000)
    assert later.of(name).after(0) == events(1500, 1500), "it is old, but the last"


async def test_what_was_said_in_a_later_life_is_no_part_of_the_tail(
    log: ValkeyLog,
) -> None:
    """Nor is what another server has: a later life here would take either for its own,
    and what gateways were shown of it for what is lost."""
    name, tails = fresh_room(), keeping()
    tail = tails.of(name)
    found = await log.activate(name)
    elsewhere = found._replace(lineage="another")
    with pytest.raises(Unavailable):
        await remember(name, log, tails, elsewhere, NOW)
    await log.activate(name, 1)
    await log.commit([Commit(name, 2, events(1, 3))])
    with pytest.raises(Fenced):
        await remember(name, log, tails, found, NOW)
    with pytest.raises(Unavailable):
        await remember(name, log, tails, elsewhere, NOW)
    assert tail.last is None
    tail.lives(found.epoch, 0, 0)
    tail.took(3, (await log.activate(name, 2)).last)
    assert tail.first_epoch == 0, "somebody else has spoken"


async def test_a_log_that_lost_something_before_is_healed_across_the_hole(
    log: ValkeyLog,
) -> None:
    """Twice in a row: what is gone since the first time is no reason to lose more."""
    before, after, tails = fresh_room(), fresh_room(), keeping()
    whole = [*events(3, 6), *events(9, 12)]
    for name, count in ((before, 8), (after, 2)):
        taken = await log.activate(name)
        await log.commit([Commit(name, 1, whole[:count])])
        if name == before:
            await remember(name, log, tails, taken, NOW)
    tail = tails.of(before)
    found = await take(after, log, own=1)
    assert (await heal(after, log, tail, found)).torn == 0
    kept = await log.after(after, 0, 100)
    assert [(each.seq, each.event) for each in kept] == whole
    empty = fresh_room()
    found = await take(empty, log, own=2)
    assert (await heal(empty, log, tail, found)).torn == 0, "it has the whole log"
    assert len(await log.after(empty, 0, 100)) == len(whole)


# What a host makes of it, with a copy of its log that is older.


class Elsewhere:
    """A Valkey whose data is replaced by an older copy, as a failover does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, admin: valkey.Valkey) -> None:
        self._admin = admin
        self._copies = 0
        know = Connection._know

        def of_a_copy(connection: Connection, info: Any) -> None:
            know(connection, info)
            connection.lineage += f" {self._copies}"
            connection.replicas = 1

        monkeypatch.setattr(Connection, "_know", of_a_copy)

    def copy(self, name: str) -> bytes:
        return bytes(self._admin.dump(keys.log(name)))

    def fail_over(self, name: str, copy: bytes) -> None:
        self._admin.restore(keys.log(name), 0, copy, replace=True)
        self._copies += 1
        self._admin.client_kill_filter(_type="normal", skipme=True)


@asynccontextmanager
async def talking(
    url: str, name: str, log: ValkeyLog
) -> AsyncIterator[tuple[Host, Caller]]:
    """A room with one socket in it, in a host that looks often."""
    await register(log, "gA")
    quick = Pace(tick_s=0.05)
    host = Host(HostSettings(url, 10_000, 3600.0, (0, 1), (0, 1), pace=quick))
    await host.start()
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await caller.visitor.until_covered()
    try:
        yield host, caller
    finally:
        caller.close()
        await host.kill()


async def say(caller: Caller, name: str, *texts: str) -> None:
    for text in texts:
        caller.chat(name, "gA.1", text)
    await caller.visitor.until_covered()


async def again(caller: Caller, name: str) -> None:
    """Attach as a gateway does after a goodbye."""
    visitor = caller.visitor
    seq = visitor.chats("gA.1")[-1][0]
    epoch = max(each.epoch for each in visitor.outputs)
    known = len(visitor.outputs)
    caller.say(visitor.attach(name, "gA.1", seq=seq, epoch=epoch, covered=visitor.n))
    await visitor.until(lambda: len(visitor.outputs) > known)


async def test_a_silent_room_heals_before_anybody_says_another_word(
    log: ValkeyLog,
    valkey_url: str,
    admin_valkey: valkey.Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, storage = fresh_room(), Elsewhere(monkeypatch, admin_valkey)
    async with talking(valkey_url, name, log) as (_, caller):
        await say(caller, name, "one", "two")
        older = storage.copy(name)
        await say(caller, name, "three", "four")
        storage.fail_over(name, older)
        await caller.visitor.until_goodbye("damage")
        await again(caller, name)
        await say(caller, name, "five")
        assert [seq for seq, _ in caller.visitor.chats("gA.1")] == [1, 2, 3, 4, 5]
        kept = await log.after(name, 0, 10)
    assert [(each.epoch, each.seq) for each in kept] == [
        *((1, 1), (1, 2), (2, 3), (2, 4), (2, 5))
    ]


async def test_what_another_said_meanwhile_stays_and_the_loss_is_named(
    log: ValkeyLog,
    valkey_url: str,
    admin_valkey: valkey.Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had taken the very epoch that was lost, so ids alone would prove nothing."""
    name, storage = fresh_room(), Elsewhere(monkeypatch, admin_valkey)
    await log.activate(name)
    before = storage.copy(name)  # knows epoch 1
    async with talking(valkey_url, name, log) as (host, caller):
        await say(caller, name, "one", "two", "three")
        assert host.objects[name].epoch == 2
        admin_valkey.restore(keys.log(name), 0, before, replace=True)
        assert (await log.activate(name)).epoch == 2
        theirs = [(n, admin_event(n, name)) for n in (1, 2)]
        assert await log.commit([Commit(name, 2, theirs)]) == [None]
        storage.fail_over(name, storage.copy(name))
        await caller.visitor.until(lambda: bool(caller.visitor.goodbyes))
        await again(caller, name)
        await say(caller, name, "four")
        kept = await log.after(name, 0, 10)
        said = [msgspec.json.decode(each.event) for each in kept]
        lost = [each for each in caller.visitor.seen("gA.1") if each["type"] == "lost"]
    assert [each["content"] for each in said][:2] == ["theirs 1", "theirs 2"]
    assert [(each["from"], each["to"], each["seq"]) for each in lost] == [(1, 3, 4)]
    assert (said[-1]["content"], said[-1]["seq"], said[-1]["era"]) == ("four", 5, 4)
    assert kept[-1].epoch > 2


def admin_event(seq: int, name: str) -> bytes:
    """What somebody else said there."""
    said = ChatMessage(
        *(f"t{seq}", room_id_of(name), "user_9", "Nine", f"theirs {seq}"),
        *(NOW, seq, False, False),
    )
    return protocol.encode(said)


# The whole of it.


@contextmanager
def administered(socket: Path) -> Iterator[valkey.Valkey]:
    at = str(socket)
    with valkey.Valkey(unix_socket_path=at, username=ADMIN, password="-") as client:
        yield client


@asynccontextmanager
async def replica(primary: Path, second: Path) -> AsyncIterator[Proxy]:
    """`second` follows `primary` over a proxy that can hold its stream back."""
    held = Proxy(url_of(primary), primary)
    server = await asyncio.start_server(held.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def follow() -> None:
        with administered(second) as client:
            client.config_set("masteruser", ADMIN)
            client.config_set("masterauth", "-")
            client.replicaof("127.0.0.1", port)

    def in_step() -> bool:
        with administered(second) as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    try:
        await asyncio.to_thread(follow)
        async with patience.within(15.0):
            while not await asyncio.to_thread(in_step):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield held
    finally:
        server.close()
        await held.close()


class Speaker:
    """A gateway with one socket that says `rate` messages a second, whatever happens,
    and attaches again as gateways do."""

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self._name = name
        self._said = 0
        self._heard = 0  # goodbyes that it has attached after
        self.epochs: set[int] = set()

    async def speak(self, seconds: float, rate: float) -> None:
        loop, visitor = asyncio.get_running_loop(), self._caller.visitor
        end = loop.time() + seconds
        while loop.time() < end:
            if self._heard < len(visitor.goodbyes):
                self._heard = len(visitor.goodbyes)
                self.attach()
            self._said += 1
            said = visitor.chat("gA.1", f"n{self._said}", f"m{self._said}")
            self._caller.say(link.Inputs(self._name, [said]))
            await asyncio.sleep(1 / rate)

    def attach(self) -> None:
        visitor = self._caller.visitor
        epoch = max((each.epoch for each in visitor.outputs), default=0)
        seq = max((seq for seq, _ in visitor.chats("gA.1")), default=0)
        attach = visitor.attach(
            self._name, "gA.1", seq=seq, epoch=epoch, covered=visitor.n
        )
        self._caller.say(attach)


async def test_a_replica_that_lags_takes_over_and_nothing_shown_is_lost() -> None:
    """One room at 300 messages a second, the replica 1.5 s behind: no hole, no gap, and
    the same bytes under a new epoch."""
    name = fresh_room()
    with own_valkey() as one, own_valkey() as two:
        async with proxied(url_of(one)) as front, replica(one, two) as held:
            setup = ValkeyLog(url_of(one), 10_000)
            await register(setup, "gA")
            setup.close()
            settings = HostSettings(
                *(front.url, 100_000, 3600.0, (0, 1), (0, 1)), pace=Pace(tick_s=0.1)
            )
            host = Host(settings)
            await host.start()
            caller = await Caller.open(host.address("x"))
            caller.enter(name, "gA.1")
            await caller.visitor.until_covered()
            speaker = Speaker(caller, name)
            await speaker.speak(1.0, 300)
            held.stall()
            await speaker.speak(1.5, 300)
            before = caller.visitor.chats("gA.1")[-1][0]
            with administered(one) as client:
                os.kill(client.info("server")["process_id"], signal.SIGKILL)
            with administered(two) as client:
                await asyncio.to_thread(client.replicaof, "NO", "ONE")
                behind = client.xinfo_stream(keys.log(name))["last-generated-id"]
            front._target = str(two)
            front.cut()
            promoted = patience.Stopwatch()
            async with patience.within(10.0):
                while caller.visitor.chats("gA.1")[-1][0] <= before:
                    await speaker.speak(0.1, 300)
            pause = promoted.seconds
            await speaker.speak(1.0, 300)
            shown = caller.visitor.chats("gA.1")
            gaps = [f for f in caller.visitor.seen("gA.1") if f.get("gap")]
            with administered(two) as client:
                counted: Any = client.hgetall(keys.DAMAGE)
            caller.close()
            await host.kill()
            log = ValkeyLog(url_of(two), 10_000)
            kept = [
                each for n in range(5) for each in await log.after(name, n * 1000, 1000)
            ]
            log.close()
    lost = before - int(behind.decode().partition("-")[2])
    assert lost > 20, "or this shows nothing"
    assert counted.keys() == {b"healed"}
    assert int(counted[b"healed"]) >= lost
    assert [each.seq for each in kept] == list(range(1, len(kept) + 1)), "a hole"
    assert len(shown) == len({seq for seq, _ in shown})
    texts = {each.seq: each.event for each in kept}
    missing = [seq for seq, said in shown if f'"{said}"'.encode() not in texts[seq]]
    assert missing == []
    assert gaps == []
    assert shown[-1][0] > before
    assert len({each.epoch for each in kept}) > 1
    assert pause < 3.0
