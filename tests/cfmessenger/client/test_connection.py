"""The client's sockets over real TCP: they come back, and nothing is lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfmessenger.client import (
    Client,
    ConnectionEnded,
    DirectMessage,
    Lost,
    Opened,
    Options,
    OutboxFull,
    RateLimited,
    Recap,
    Refused,
    RoomConnection,
    SendRejected,
    SendTimeout,
    Session,
    SessionEnded,
)
from cfmessenger.wire.events import Message
from cfmessenger.wire.protocol import ErrorFrame, PresenceFullSync
from tests import patience
from tests.patience import Stopwatch

from .scripted_server import ScriptedServer, ServerSocket, now_ms
from .test_state import PARTICIPANTS, history, message, seqs_of

FAST = Options(base_delay_s=0.01, max_delay_s=0.02, close_timeout_s=0.2)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def session(server: ScriptedServer) -> AsyncIterator[Session]:
    async with Client(server.url) as client, await client.login("user_1") as session:
        yield session


def echo(seq: int, frame: dict[str, Any]) -> dict[str, Any]:
    return message(seq, frame["id"], "user_1") | {"content": frame.get("content", "")}


async def next_of(room: Any, kind: type) -> Any:
    async with patience.within(5):
        async for event in room:
            if isinstance(event, kind):
                return event
    raise AssertionError("the events ended")


async def test_a_send_is_its_echo(server: ScriptedServer, session: Session) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        assert socket.path == "/api/ws/room/general"
        assert socket.query == {"ticket": "ticket-1"}
        sending = asyncio.create_task(room.send("hello"))
        frame = await socket.recv()
        assert frame == {"type": "chat", "content": "hello", "id": frame["id"]}
        assert not sending.done()
        socket.send(echo(1, frame))
        assert (await sending).seq == 1
        assert await next_of(room, Opened) == Opened(None)
        assert (await next_of(room, Message)).content == "hello"


@pytest.mark.parametrize("how", [1001, 1011, 1012, 1013, 4400, "abort"])
async def test_a_lost_socket_is_resumed_with_a_new_ticket_and_since(
    server: ScriptedServer, session: Session, how: Any
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        socket.send(history(1, 2), message(3))
        await next_of(room, Message)
        socket.abort() if how == "abort" else socket.close(how, "bye")
        lost = await next_of(room, Lost)
        assert lost.code == (1006 if how == "abort" else how)
        assert 0 <= lost.retry_s <= 0.02
        again = await server.accept()
        assert again.query == {"ticket": "ticket-2", "since": "3"}
        again.send(history(4, 5))
        assert await next_of(room, Opened) == Opened(3)
        assert seqs_of([await next_of(room, Recap)]) == [4, 5]


@pytest.mark.parametrize(
    ("code", "kind"), [(4500, SessionEnded), (4501, SessionEnded), (4508, Refused)]
)
async def test_a_final_close_ends_iteration_and_sends_with_its_error(
    server: ScriptedServer, session: Session, code: int, kind: type[ConnectionEnded]
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        sending = asyncio.create_task(room.send("hello"))
        await socket.recv()
        socket.close(code)
        with pytest.raises(kind) as ended:
            await sending
        assert ended.value.close_code == code
        with pytest.raises(kind):
            await next_of(room, Message)
        with pytest.raises(kind):
            await room.send("again")
    assert server.calls("/api/ws/room/general") == 1


async def test_what_was_on_its_way_goes_again_before_what_is_new(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        socket.send(history(1))
        await next_of(room, Recap)
        first = asyncio.create_task(room.send("first"))
        frame = await socket.recv()
        socket.abort()
        await next_of(room, Lost)
        second = asyncio.create_task(room.send("second"))
        again = await server.accept()
        again.send(history(last=1))
        assert await again.recv() == frame
        new = await again.recv()
        assert new["content"] == "second"
        again.send(echo(2, frame), echo(3, new))
        assert [(await first).seq, (await second).seq] == [2, 3]


async def test_a_refused_send_raises_what_the_server_said(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        sending = asyncio.create_task(room.nudge())
        frame = await socket.recv()
        error = {"type": "error", "code": "RATE_LIMITED", "message": "m"}
        more = {"content": "m", "retryable": True, "retryAfterMs": 70}
        socket.send(error | more | {"id": frame["id"]})
        with pytest.raises(RateLimited) as refusal:
            await sending
        assert refusal.value.retry_after_ms == 70


async def test_an_unanswered_send_times_out_and_is_not_sent_again(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        with pytest.raises(SendTimeout) as timeout:
            await room.send("hello", timeout_s=0.05)
        frame = await socket.recv()
        assert timeout.value.id == frame["id"]
        socket.abort()
        again = await server.accept()
        again.send(PARTICIPANTS)
        sending = asyncio.create_task(room.send("hello", id=frame["id"]))
        assert await again.recv() == frame
        again.send(echo(1, frame))
        assert (await sending).seq == 1


async def test_a_reader_that_raises_takes_nobody_with_it(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("music", options=FAST) as other:
        music = await server.accept()
        with pytest.raises(ZeroDivisionError):
            async with session.room("general", options=FAST) as room:
                (await server.accept()).send(message(1))
                async for event in room:
                    if isinstance(event, Message):
                        raise ZeroDivisionError
        music.send(message(1))
        assert (await next_of(other, Message)).seq == 1
        sending = asyncio.create_task(other.send("still here"))
        frame = await music.recv()
        music.send(echo(2, frame))
        assert (await sending).seq == 2


async def test_a_reader_that_raises_may_go_on_reading(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        socket.send(message(1), message(2))
        with pytest.raises(ZeroDivisionError):
            async for event in room:
                if isinstance(event, Message):
                    raise ZeroDivisionError
        assert (await next_of(room, Message)).seq == 2


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "ID_REUSED", "NOT_YOURS"])
async def test_a_send_refused_for_any_reason_ends_with_it_and_the_next_goes_on(
    server: ScriptedServer, session: Session, code: str
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        sending = asyncio.create_task(room.send("hello"))
        behind = asyncio.create_task(room.send("behind it"))
        frame, after = await socket.recv(), await socket.recv()
        error = {"type": "error", "code": code, "message": "m", "content": "m"}
        # ID_REUSED comes with the echo of the words that the id was used for.
        old = echo(1, frame) | {"content": "old words"}
        socket.send(error | {"retryable": False, "id": frame["id"]}, old)
        socket.send(echo(2, after))
        with pytest.raises(SendRejected) as refusal:
            await sending
        assert refusal.value.code == code
        assert (await behind).content == "behind it"


async def test_an_error_that_names_nothing_is_told_and_ends_no_send_but_by_time(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        sending = asyncio.create_task(room.send("unreadable", timeout_s=0.2))
        await socket.recv()
        error = {"type": "error", "code": "INVALID_JSON", "message": "m"}
        socket.send(error | {"content": "m", "retryable": False})
        assert (await next_of(room, ErrorFrame)).code == "INVALID_JSON"
        with pytest.raises(SendTimeout):
            await sending
        sending = asyncio.create_task(room.send("readable"))
        frame = await socket.recv()
        socket.send(echo(1, frame))
        assert (await sending).content == "readable"


async def test_a_line_that_ends_every_socket_is_given_up_and_those_behind_it_go_on(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        poison = asyncio.create_task(room.send("poison", timeout_s=0.5))
        behind = asyncio.create_task(room.send("behind it", timeout_s=None))
        while not behind.done():
            socket = await server.accept()
            socket.send(PARTICIPANTS)
            frame = await socket.recv()
            if frame["content"] == "poison":
                socket.close(1011)
                continue
            socket.send(echo(1, frame))
            await asyncio.wait([behind], timeout=5)
        with pytest.raises(SendTimeout):
            await poison
        assert (await behind).content == "behind it"


async def test_the_outbox_is_bounded(server: ScriptedServer, session: Session) -> None:
    options = Options(outbox_limit=1)
    async with session.room("general", options=options) as room:
        waiting = asyncio.create_task(room.send("a"))
        await (await server.accept()).recv()
        with pytest.raises(OutboxFull):
            await room.send("b")
        await room.aclose()
        with pytest.raises(ConnectionEnded):
            await waiting


async def test_a_reader_that_stops_stops_the_socket_not_the_memory(
    server: ScriptedServer, session: Session
) -> None:
    options = Options(events_limit=4)
    async with session.room("general", options=options) as room:
        socket = await server.accept()
        socket.send(*(message(seq) for seq in range(1, 101)))
        assert (await next_of(room, Message)).seq == 1
        assert len(room._events) <= 4
        seen = [(await next_of(room, Message)).seq for _ in range(99)]
        assert seen == list(range(2, 101))


async def test_without_a_listener_sends_are_still_acknowledged(
    server: ScriptedServer, session: Session
) -> None:
    options = Options(listen=False, events_limit=1)
    async with session.room("general", options=options) as room:
        socket = await server.accept()
        for seq in range(1, 6):
            sending = asyncio.create_task(room.send("hello"))
            socket.send(echo(seq, await socket.recv()))
            assert (await sending).seq == seq


async def test_refused_upgrades(server: ScriptedServer, session: Session) -> None:
    busy = (503, ("AT_CAPACITY", "No more sockets right now."), {"Retry-After": "0"})
    server.refusals.extend([busy, (401, ("AUTH_EXPIRED", "stale ticket"), {}), busy])
    async with session.room("general", options=FAST) as room:
        await server.accept()
        lost = await next_of(room, Lost)
        assert (lost.code, lost.reason) == (0, "No more sockets right now.")
    server.refusals.append((403, ("NOT_A_PARTICIPANT", "Only its participants."), {}))
    with pytest.raises(Refused) as refusal:
        async with session.direct("user_2"):
            raise AssertionError("never entered")
    assert refusal.value.code == "NOT_A_PARTICIPANT"
    assert server.requests[-1].path == "/api/ws/room/dm_user_1__user_2"


async def test_upgrades_refused_with_401_again_and_again_end_it(
    server: ScriptedServer, session: Session
) -> None:
    server.refusals.extend([(401, ("AUTH_EXPIRED", "stale ticket"), {})] * 9)
    with pytest.raises(SessionEnded):
        async with session.room("general", options=FAST):
            raise AssertionError("never entered")
    assert len(server.refusals) == 6


async def test_no_ticket_without_a_session(
    server: ScriptedServer, session: Session
) -> None:
    server.session_id = "another"
    with pytest.raises(SessionEnded):
        async with session.room("general", options=FAST):
            raise AssertionError("never entered")


async def test_a_server_that_is_not_there_yet_is_waited_for(
    server: ScriptedServer, session: Session
) -> None:
    room = session.room("general", options=FAST)
    server.routes["POST", "/api/auth/ticket"], real = (
        lambda request: (503, ("UNAVAILABLE", "Not available right now.")),
        server.routes["POST", "/api/auth/ticket"],
    )
    room.start()
    for _ in range(3):
        assert not (await next_of(room, Lost)).code
    server.routes["POST", "/api/auth/ticket"] = real
    await room.wait_open()
    await room.aclose()


async def first_lost(room: RoomConnection) -> Lost:
    """Without a limit of its own, since the loop's clock is ahead of the world's."""
    async for event in room:
        if isinstance(event, Lost):
            return event
    raise AssertionError("it has ended")


async def test_silence_means_the_socket_is_dead(
    server: ScriptedServer, session: Session
) -> None:
    options = Options(
        base_delay_s=0.01, max_delay_s=0.02, ping_every_s=0.03, silence_s=30.0
    )
    async with session.room("general", options=options) as room:
        socket = await server.accept()
        for _ in range(3):  # twice the limit in all: pongs alone keep it
            patience.skip(20)
            for _ in range(3):  # at the third the first has been answered
                await socket.pinged.acquire()
        assert room.connected
        socket.answers_pings = False
        lost = asyncio.create_task(first_lost(room))
        while not lost.done():  # the last pongs may still be on their way
            patience.skip(31)
            await asyncio.wait([lost], timeout=0.1)
        assert lost.result().reason == "nothing heard"
        await server.accept()


async def test_the_clock_offset_is_measured_at_once(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        socket.skew_ms = 90_000
        await socket.pinged.acquire()
        await socket.pinged.acquire()  # the first had no skew yet, maybe
        await socket.pinged.acquire()
        sending = asyncio.create_task(room.send("hello"))
        socket.send(echo(1, await socket.recv()))
        await sending  # so the pongs before it were heard
        assert abs(room.server_now() - now_ms() - 90_000) < 200
        assert abs(room.delay_until(now_ms() + 91_000) - 1.0) < 0.2


async def test_leaving_writes_what_waits_and_closes(
    server: ScriptedServer, session: Session
) -> None:
    async with session.room("general", options=FAST) as room:
        socket = await server.accept()
        room.ack("m1", "read")
    assert (await socket.recv())["ackId"] == "m1"
    assert [event async for event in room] == [Opened(None)]
    await patience.wait_for(socket.closed.wait(), 5)
    assert socket.close_code == 1000


async def test_closing_before_starting_ends_it(session: Session) -> None:
    room = session.room("general")
    await room.aclose()
    assert [event async for event in room] == []
    with pytest.raises(ConnectionEnded):
        await room.send("hello")


async def test_presence(server: ScriptedServer, session: Session) -> None:
    async with session.presence(options=FAST) as presence:
        socket = await server.accept()
        assert socket.path == "/api/ws/presence"
        one = {"id": "user_1", "displayName": "One", "status": "online"}
        whole = {"type": "presence_full_sync", "online": 1, "scope": "all"}
        socket.send(whole | {"participants": [one]})
        await next_of(presence, PresenceFullSync)
        assert list(presence.state.roster) == ["user_1"]
        socket.send({"type": "message_notification", "message": message(1)})
        assert (await next_of(presence, DirectMessage)).message.seq == 1
        presence.presence("busy")
        said = {"type": "presence_update", "status": "busy"}
        assert await socket.recv() == said
        presence.watch(["user_2", "user_3"])
        watch = {"type": "watch", "userIds": ["user_2", "user_3"]}
        assert await socket.recv() == watch
        presence.unwatch(["user_3"])
        assert await socket.recv() == {"type": "unwatch", "userIds": ["user_3"]}
        socket.close(1012)
        again = await server.accept()
        assert again.since is None
        assert await again.recv() == said
        assert await again.recv() == {"type": "watch", "userIds": ["user_2"]}


class FaultyRoom:
    """Accepts and echoes like a room, and cuts its sockets at bad moments."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log: list[dict[str, Any]] = []

    async def serve(self, server: ScriptedServer) -> None:
        while True:
            socket = await server.accept()
            self.greet(socket)
            while not self.chance.random() < 0.15:
                try:
                    async with patience.within(0.2):
                        frame = await socket.recv()
                except TimeoutError:
                    continue
                if self.chance.random() < 0.1:
                    break  # heard, not taken
                event = self.take(frame)
                if self.chance.random() < 0.1:
                    break  # taken, not echoed
                socket.send(event)
            socket.abort() if self.chance.random() < 0.5 else socket.close(1012)

    def greet(self, socket: ServerSocket) -> None:
        since = socket.since or 0
        rest = self.log[since:]
        for n in range(0, max(len(rest), 1), 3):
            page = {"messages": rest[n : n + 3], "lastSeq": len(self.log)}
            more = {"roomId": "general", "gap": False}
            socket.send({"type": "history"} | page | more)
        socket.send(PARTICIPANTS)

    def take(self, frame: dict[str, Any]) -> dict[str, Any]:
        for event in self.log:
            if event["id"] == frame["id"]:
                return event
        self.log.append(echo(len(self.log) + 1, frame))
        return self.log[-1]


@pytest.mark.parametrize("seed", range(3))
async def test_sixty_messages_through_a_faulty_server(
    server: ScriptedServer, session: Session, seed: int
) -> None:
    faulty = FaultyRoom(random.Random(seed))
    serving = asyncio.create_task(faulty.serve(server))
    texts = [f"text {n}" for n in range(60)]
    async with session.room("general", options=FAST) as room:
        sends = [asyncio.create_task(room.send(text)) for text in texts]
        seen: list[int] = []
        began = Stopwatch()
        while len(seen) < 60 and began.seconds < 20:
            seen += seqs_of([await anext(room)])
        echoes = await asyncio.gather(*sends)
    serving.cancel()
    assert [m["content"] for m in faulty.log] == texts
    assert [m.content for m in echoes] == texts
    assert seen == list(range(1, 61))


async def test_the_room_connection_needs_no_session_object(
    server: ScriptedServer,
) -> None:
    async def ticket() -> str:
        return "from elsewhere"

    async with RoomConnection(server.url, "general", "user_1", ticket, since=7):
        assert (await server.accept()).query == {
            "ticket": "from elsewhere",
            "since": "7",
        }
