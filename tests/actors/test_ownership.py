"""Whose epoch a look compares, and for whom it speaks: whoever is loading, whoever took
an epoch while the look was under way, and what a generation moves meanwhile.

What a host then does, and that it is not trusted without a look, is in `test_host.py`;
that a pool looks at its marker in `test_pool.py`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from actors import ownership
from actors.host import Host
from actors.host_settings import HostSettings
from actors.ownership import TRUST_S, Ownership
from actors.pace import Pace
from actors.tail import Tail
from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_id_of
from cfmessenger.placement import Placement
from cfmessenger.storage.generation import Generation
from cfmessenger.storage.log import Activated, Commit, Entry, ValkeyLog
from cfmessenger.storage.resp import Connection
from cfmessenger.wire import protocol
from cfmessenger.wire.events import ChatMessage
from tests.actors.caller import Caller
from tests.actors.scene import fresh_room, register
from tests.valkey_proxy import Proxy


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    await register(log, "gA")
    yield log
    log.close()


@pytest.fixture
async def slow(proxy: Proxy) -> AsyncIterator[ValkeyLog]:
    """A log whose answers the proxy can keep back."""
    slow = ValkeyLog(proxy.url, 10_000)
    yield slow
    slow.close()


async def owner(
    slow: ValkeyLog, actor: str | None = None, placement: Placement | None = None
) -> Ownership:
    owner = Ownership(actor, placement or Placement(), slow, Generation(slow))
    await owner.take()
    return owner


class Alive:
    """An activation, as far as an `Ownership` knows it."""

    def __init__(self) -> None:
        self.name = ""  # from `take` on
        self.epoch, self.asked_at, self.taken_at = 0, 0.0, 0.0
        self.lineage, self.numbered, self.tail = "", 0, Tail()

    async def take(self, log: ValkeyLog, name: str, took_s: float = 0.0) -> None:
        """An epoch, for which it asked so long ago."""
        found = await log.activate(name)
        self.name = name
        self.epoch, self.lineage = found.epoch, found.lineage
        self.tail.took(self.epoch)
        self.taken_at = asyncio.get_running_loop().time()
        self.asked_at = self.taken_at - took_s

    def proved(self, lineage: str) -> None:
        self.lineage = lineage


async def test_a_room_that_is_taken_over_while_it_loads_never_speaks(
    valkey_url: str, log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the load takes: who waits for it is told, and goes to the winner."""
    name, newest = fresh_room(), ValkeyLog.newest
    room = room_id_of(name)
    said = ChatMessage("m1", room, "user_1", "One", "hi", 1, 1, False, False)
    epoch = (await log.activate(name)).epoch
    await log.commit([Commit(name, epoch, [(1, protocol.encode(said))])])
    reading, go = asyncio.Event(), asyncio.Event()

    async def held(
        self: ValkeyLog, of: str, count: int, before: int | None
    ) -> list[Entry]:
        if of == name:  # not the generation's
            reading.set()
            await go.wait()
        return await newest(self, of, count, before)

    monkeypatch.setattr(ValkeyLog, "newest", held)
    quick = Pace(tick_s=0.01)
    host = Host(HostSettings(valkey_url, 10_000, 3600.0, (0, 1), (0, 1), pace=quick))
    await host.start()
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    await reading.wait()
    later = (await log.activate(name)).epoch
    await caller.visitor.until_goodbye("duplicate_activation")
    assert host.objects == {}

    go.set()
    caller.enter(name, "gA.2")
    await caller.visitor.until_covered()
    assert {each.epoch for each in caller.visitor.outputs} == {later + 1}
    caller.close()
    await host.kill()


async def test_a_look_speaks_for_nobody_who_took_an_epoch_meanwhile(
    log: ValkeyLog, proxy: Proxy, slow: ValkeyLog
) -> None:
    """That took longer than trust lasts: somebody may have been there since."""
    owned, name, late = await owner(slow), fresh_room(), Alive()
    proxy.stall()
    looking = asyncio.create_task(owned.look({name: late}))
    await proxy.until_kept()
    await late.take(log, name, took_s=TRUST_S + 0.1)
    proxy.flow()
    assert await looking == ([], False, [])
    assert not owned.trusted(late)
    assert await owned.look({name: late}) == ([], False, [])
    assert owned.trusted(late)


async def test_who_has_just_taken_an_epoch_is_trusted_before_any_look(
    log: ValkeyLog, slow: ValkeyLog
) -> None:
    owned, name, fresh = await owner(slow), fresh_room(), Alive()
    await fresh.take(log, name)
    assert owned.trusted(fresh)


async def test_what_moves_during_a_look_is_looked_at(
    log: ValkeyLog, proxy: Proxy, slow: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new generation is told of directly, too, and may come before the answer."""
    monkeypatch.setattr(ownership, "SPREADING_S", 60.0)
    before, name, moved = Placement("pooled", 1, 10**6), fresh_room(), Alive()
    owned = await owner(slow, "rooms:0", before)
    owned._all_until = 0.0  # the start is long ago
    await moved.take(log, name)
    proxy.stall()
    looking = asyncio.create_task(owned.look({name: moved}))
    await proxy.until_kept()
    owned.follow(Placement("dedicated", 1, before.number + 1), [name])
    await log.activate(name)  # where it lives now
    proxy.flow()
    assert await looking == ([name], False, [])


async def test_a_pool_that_is_overtaken_at_a_promoted_server_is_superseded(
    slow: ValkeyLog, log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one name, after a failover: the other has taken its marker just before."""
    pool = f"rooms:{uuid.uuid4().int % 10**9}"
    own = await owner(slow, pool, Placement("pooled", 1, 1))
    know, tops = Connection._know, slow.tops

    def of_another(connection: Connection, info: Any) -> None:
        know(connection, info)
        connection.lineage += " promoted"

    async def overtaken(names: Sequence[str]) -> list[tuple[int, int]]:
        found = await tops(names)
        await log.activate(pool, 5)
        return found

    monkeypatch.setattr(Connection, "_know", of_another)
    slow.close()
    monkeypatch.setattr(slow, "tops", overtaken)
    assert (await own.look({})).all


async def test_a_marker_that_could_not_be_taken_is_taken_at_the_next_look(
    slow: ValkeyLog, log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = f"rooms:{uuid.uuid4().int % 10**9}"
    own = await owner(slow, pool, Placement("pooled", 1, 1))
    know, activate = Connection._know, slow.activate

    def of_another(connection: Connection, info: Any) -> None:
        know(connection, info)
        connection.lineage += " promoted"

    async def away(name: str, above: int = 0) -> Activated:
        raise Unavailable

    monkeypatch.setattr(Connection, "_know", of_another)
    slow.close()
    monkeypatch.setattr(slow, "activate", away)
    with pytest.raises(Unavailable):
        await own.look({})
    monkeypatch.setattr(slow, "activate", activate)
    assert not (await own.look({})).all
    assert await log.epoch(pool) == 2
