"""What became of inputs that were not covered in time: a real Valkey's log tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import pytest

from cfmessenger.chat.compose import compose
from cfmessenger.link.messages import Said, text_frame
from cfmessenger.storage.log import Commit, ValkeyLog
from cfmessenger.wire import protocol
from cfmessenger.wire.protocol import Chat, Nudge, Wink
from gateway.live import late as lates
from gateway.live.late import Found, Late, Looks
from tests.gateway.node import new_room
from tests.valkey_proxy import proxied

CONN = "gabc~2.7"


class Waiting:
    """A stub that notes what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settled: list[int] = []
        self.found: Mapping[int, Found] | None = {}

    def settle(self, late: Collection[int], found: Mapping[int, Found] | None) -> None:
        self.settled += late
        self.found = found


class Desk:
    """A room's log with something in it, and whoever asks for it."""

    def __init__(self, log: ValkeyLog) -> None:
        self.log = log
        self.room = new_room()
        self.stub = Waiting(f"room:{self.room}")
        self.events: list[bytes] = []

    async def says(self, frame: Chat | Nudge | Wink, own: str, by: str) -> None:
        """The next event of the log, in an epoch of its own."""
        seq = len(self.events) + 1
        taken = await self.log.activate(self.stub.name)
        message = compose(frame, own, self.room, by, by.title(), 1_000 + seq, seq)
        self.events.append(protocol.encode(message))
        made = Commit(self.stub.name, taken.epoch, [(seq, self.events[-1])])
        assert await self.log.commit([made]) == [None]

    async def ask(
        self, *frames: bytes, seen: int | None = None
    ) -> dict[int, int] | None:
        """By the frame's number, the event that it is found to be; None: the log does
        not say."""
        late = [
            Late(Said(n, CONN, data, seen), "tom", seen)
            for n, data in enumerate(frames, 1)
        ]
        await Looks(self.log).look(self.stub, late)
        assert self.stub.settled == [each.said.n for each in late]
        if self.stub.found is None:
            return None
        for event in self.stub.found.values():
            assert event.blob == text_frame(self.events[event.seq - 1])
        return {n: event.seq for n, event in self.stub.found.items()}


@asynccontextmanager
async def desk(url: str) -> AsyncIterator[Desk]:
    log = ValkeyLog(url, 10_000)
    try:
        yield Desk(log)
    finally:
        log.close()


@pytest.mark.parametrize("seen", [None, 0, 1])
async def test_what_is_in_the_log_is_found(valkey_url: str, seen: int | None) -> None:
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="ann")
        await at.says(Chat("hello"), "a", by="tom")
        await at.says(Nudge(), "b", by="tom")
        await at.says(Wink("w1"), "gabc.4", by="tom")  # it had brought no id
        found = await at.ask(
            b'{"type":"chat","content":"hello","id":"a"}',
            b'{"type":"nudge","id":"b"}',
            b'{"type":"nudge","id":"other"}',
            b'{"type":"wink","winkId":"w1"}',
            b'{"type":"wink","winkId":"w1"}',
            seen=seen,
        )
        assert found == {1: 2, 2: 3, 4: 4}


async def test_other_words_under_an_id_are_not_it(valkey_url: str) -> None:
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        found = await at.ask(
            b'{"type":"chat","content":"bye","id":"a"}',
            b'{"type":"nudge","id":"a"}',
            b'{"type":"chat","content":"hello","id":"a"}',
        )
        assert found == {3: 1}


async def test_what_the_socket_had_seen_a_while_ago_is_not_looked_at(
    valkey_url: str,
) -> None:
    again = b'{"type":"chat","content":"hello","id":"a"}'
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        assert await at.ask(again, seen=1 + lates.REPEATS) == {}
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        assert await at.ask(again, seen=lates.REPEATS) == {1: 1}


async def test_damage_in_the_log_hides_nothing_else(valkey_url: str) -> None:
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        taken = await at.log.activate(at.stub.name)
        made = Commit(at.stub.name, taken.epoch, [(2, b"no event")])
        assert await at.log.commit([made]) == [None]
        found = await at.ask(b'{"type":"chat","content":"hello","id":"a"}')
        assert found == {1: 1}


async def test_what_is_in_no_log_is_not_asked_for(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(valkey_url) as at:
        at.log.close()
        monkeypatch.setattr(at.log, "execute", None)
        assert await at.ask(b'{"type":"typing","isTyping":true}', b"nonsense") == {}


async def test_a_log_that_does_not_answer_says_nothing_in_time(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lates, "LOOK_S", 0.05)
    async with proxied(valkey_url) as proxy, desk(proxy.url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        proxy.stall()
        frame = b'{"type":"chat","content":"hello","id":"a"}'
        assert await at.ask(frame) is None
        proxy.cut()
        at.stub.settled.clear()
        assert await at.ask(frame) is None


async def test_so_many_are_looked_for_at_once(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lates, "LOOKS", 1)
    async with desk(valkey_url) as at:
        await at.says(Chat("hello"), "a", by="tom")
        looks = Looks(at.log)
        said = Said(1, CONN, b'{"type":"chat","content":"hello","id":"a"}', None)
        await asyncio.gather(
            *(looks.look(at.stub, [Late(said, "tom", said.seen)]) for _ in range(5))
        )
        assert at.stub.settled == [1] * 5 and at.stub.found[1].seq == 1
