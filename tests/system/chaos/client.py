"""A client that records what it does and sees, raw, before anything interprets it.

Owns one socket after another of one user in one room, or on the presence registry.
Resuming and re-sending are the product's own client machines' (`RoomState`), so they
are tested too, but what the checker reads is each frame as it came. Must not decide
when to talk (`workload`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from cfmessenger.backoff import Backoff
from cfmessenger.client.errors import (
    ApiError,
    ClientError,
    OutboxFull,
    SendRejected,
    SessionEnded,
    Unreachable,
)
from cfmessenger.client.events import Acknowledged, Rejected
from cfmessenger.client.frames import read_events, read_frame
from cfmessenger.client.room_state import RoomState
from cfmessenger.client.session import Session
from cfmessenger.client.state import PresenceState
from cfmessenger.client.urls import websocket_url
from cfmessenger.wire.events import Message
from cfmessenger.wire.protocol import ErrorFrame, System
from cfmessenger.wire.protocol import History as HistoryFrame
from tests.system.chaos import history as h
from tests.system.chaos.history import Event, History

PING_EVERY_S = 5.0
SILENCE_S = 20.0
# `connect` says ConnectionClosed when the server hangs up before it was asked.
_NOT_NOW = (ClientError, OSError, TimeoutError, InvalidHandshake, ConnectionClosed)
DIAL_S = 15.0
OUTBOX = 200


class Chatter:
    """One client. `start`, then `say`; `drop` and `stop` end a socket or all of them.

    `retries`: what was not confirmed, or lost its socket, is asked again with the same
    id; else it is given up. `names` are display names, to read joined and left lines.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        room: str,
        history: History,
        *,
        names: dict[str, str],
        rng: random.Random,
        retries: bool,
        refusals: Counter[str],
    ) -> None:
        self.name = name
        self.room = room
        self.user = session.user.id
        self.retries = retries
        self.socket = 0
        self.port = 0
        self.away = False  # does not come back
        self.stalled = asyncio.Event()
        self.stalled.set()
        self.connected = asyncio.Event()
        self.presence: PresenceState | None = None
        self._state: RoomState | None = None
        self._history = history
        self._session = session
        self._names = names
        self._rng = rng
        self._refusals = refusals
        self._said = 0
        self._ws: ClientConnection | None = None
        self._ours = False
        self._task: asyncio.Task[None] | None = None
        self._again: dict[str, int] = {}  # asked again after a refusal, how often
        self._words: dict[str, tuple[str, int]] = {}  # kind and size, to say it again
        self._backoff = Backoff(rng.uniform, base_s=0.2, cap_s=1.5)
        self._wait_s = 0.0
        self._forget = False
        self._asked: int | None = None
        self._heard: str | None = None
        self._writing = asyncio.Lock()
        self._fresh()

    def _fresh(self) -> None:
        if self.room:
            self._state = RoomState(
                self.room, self.user, id_prefix=self.name, outbox_limit=OUTBOX
            )
        else:
            self.presence = PresenceState(self.user)

    # What the workload does with it.

    def start(self) -> None:
        """Begin to connect, and to come back whenever the socket is lost."""
        self._task = asyncio.create_task(self._run(), name=self.name)
        self._task.add_done_callback(self._died)

    def _died(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # Ours, or one that a client library should not let through.
            self._refusals[f"client task died: {error!r}"] += 1

    @property
    def outstanding(self) -> int:
        """Messages that are not answered yet."""
        return len(self._state.outbox) if self._state is not None else 0

    @property
    def last_seq(self) -> int:
        """How far it has seen its room."""
        return (self._state.last_seq or 0) if self._state is not None else 0

    async def say(self, kind: str = "chat", size: int = 0) -> str | None:
        """Say something that nobody ever says again; its id, or None when too much
        waits already."""
        self._said += 1
        message_id = f"{self.name}.{self._said}"
        try:
            self._put(message_id, kind, size)
        except OutboxFull:
            return None
        if self.retries:
            self._words[message_id] = kind, size
        who = self.name, self.user, self.room
        self._history.add(h.Invoke(time.monotonic(), *who, kind, message_id))
        await self._flush()
        return message_id

    def _put(self, message_id: str, kind: str, size: int) -> None:
        state = self._state
        assert state is not None
        if kind == "nudge":
            state.nudge(message_id)
        elif kind == "wink":
            state.wink("heart", message_id)
        else:
            state.chat(f"{message_id} {'x' * size}", message_id)

    async def murmur(self) -> None:
        """Something that leaves no trace: typing, or a receipt."""
        state = self._state
        assert state is not None
        if self._rng.random() < 0.5:
            state.typing(self._rng.random() < 0.7)
        elif self._heard is not None:
            state.ack(self._heard, "read")
        await self._flush()

    async def drop(self, *, abort: bool, pause_s: float, forget: bool = False) -> None:
        """End the socket; come back after `pause_s`, with `since` unless `forget`."""
        self._wait_s = pause_s
        self._forget = forget
        await self._end(abort)

    async def stop(self, *, abort: bool = False) -> None:
        """End for good."""
        self.away = True
        await self._end(abort)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _end(self, abort: bool) -> None:
        ws = self._ws
        self._ours = True
        if ws is None:
            return
        if abort:
            ws.transport.abort()
        else:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(3.0):
                    await ws.close()

    # Sockets.

    async def _run(self) -> None:
        while not self.away:
            try:
                async with asyncio.timeout(DIAL_S):
                    ws = await self._dial()
            except _NOT_NOW as error:
                self._refusals[_why(error)] += 1
                await asyncio.sleep(self._backoff.delay())
                continue
            self._backoff.reset()
            await self._serve(ws)
            if self._forget and not self.outstanding:
                self._fresh()
            self._forget = False
            if not self.away:
                await asyncio.sleep(self._wait_s or self._backoff.delay())
                self._wait_s = 0.0

    async def _dial(self) -> ClientConnection:
        path = f"/api/ws/room/{self.room}" if self.room else "/api/ws/presence"
        since = self._state.since if self._state is not None else None
        url = websocket_url(
            self._session.client.url, path, await self._session.ticket(), since
        )
        self._asked = since
        return await connect(
            url,
            compression=None,
            proxy=None,
            open_timeout=8.0,
            close_timeout=2.0,
            ping_interval=None,
            max_size=2**23,
        )

    async def _serve(self, ws: ClientConnection) -> None:
        self._ws, self._ours = ws, False
        self.socket += 1
        self.port = ws.local_address[1]
        t = time.monotonic()
        opened = self.name, self.socket, self.user, self.room, self._asked
        self._history.add(h.Opened(t, *opened, self.port))
        self._machine.opened()
        self.connected.set()
        pinging = asyncio.create_task(self._ping())
        code, reason = 1006, ""
        try:
            await self._flush()
            code, reason = await self._read(ws)
        finally:
            pinging.cancel()
            self.connected.clear()
            self._ws = None
            self._machine.lost()
            ours = self._ours
            closed = self.name, self.socket, code, reason, ours
            self._history.add(h.Closed(time.monotonic(), *closed))
            self._lost()
            with contextlib.suppress(Exception):
                await ws.close()

    @property
    def _machine(self) -> RoomState | PresenceState:
        machine = self._state if self._state is not None else self.presence
        assert machine is not None
        return machine

    def _lost(self) -> None:
        if self._state is None or self.retries:
            return  # the machine sends again what is in its outbox
        for message_id in self._state.outbox:
            self._state.forget(message_id)
            t = time.monotonic()
            self._history.add(h.GaveUp(t, self.name, self.room, message_id))

    async def _read(self, ws: ClientConnection) -> tuple[int, str]:
        try:
            while True:
                await self.stalled.wait()
                async with asyncio.timeout(SILENCE_S):
                    data = await ws.recv(decode=False)
                self._received(data)
                if self._machine.has_output:
                    await self._flush()
        except TimeoutError:
            ws.transport.abort()
            return 1006, f"nothing heard for {SILENCE_S:.0f} s"
        except ConnectionClosed as closed:
            frame = closed.rcvd
            return (frame.code, frame.reason) if frame is not None else (1006, "")

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S * self._rng.uniform(0.5, 1.0))
            self._machine.ping(time.monotonic() * 1000)
            await self._flush()

    async def _flush(self) -> None:
        ws = self._ws
        if ws is None or not self._machine.has_output:
            return
        async with self._writing:
            await self._write(ws)

    async def _write(self, ws: ClientConnection) -> None:
        before = set(self._state.outbox) if self._state is not None else set()
        with contextlib.suppress(ConnectionClosed):
            for frame in self._machine.take():
                if before and (message_id := _id_of(frame)) in before:
                    t = time.monotonic()
                    self._history.add(h.Written(t, self.name, self.socket, message_id))
                await ws.send(frame, text=True)

    # Frames, raw first.

    def _received(self, data: bytes) -> None:
        t = time.monotonic()
        frame = read_frame(data)
        where = self.name, self.socket, self.room
        match frame:
            case Message():
                self._show(t, frame, live=True)
            case HistoryFrame():
                events = read_events(frame.messages)
                messages = [each for each in events if isinstance(each, Message)]
                first, last = (
                    (messages[0].seq, messages[-1].seq) if messages else (0, 0)
                )
                self._history.add(
                    h.Recap(t, *where, first, last, frame.last_seq, frame.gap)
                )
                for message in messages:
                    self._show(t, message, live=False)
            case System() if self.room:
                self._line(t, frame.content)
            case ErrorFrame() if isinstance(frame.id, str):
                refused = h.Refused(t, *where, frame.id, frame.code)
                self._history.add(refused)
            case ErrorFrame():
                self._refusals[f"error frame {frame.code}"] += 1
        for event in self._machine.received(t * 1000, data):
            if isinstance(event, Acknowledged):
                ok = h.Ok(t, self.name, self.room, event.id, event.message.seq)
                self._history.add(ok)
            elif isinstance(event, Rejected):
                self._rejected(event.id, event.error)

    def _show(self, t: float, message: Message, *, live: bool) -> None:
        event = Event.of(message)
        said = event.seq, event.sender, event.id, event.content
        self._history.add(h.Shown(t, self.name, self.socket, self.room, *said, live))
        if message.sender_id != self.user:
            self._heard = message.id

    def _line(self, t: float, content: str) -> None:
        for ending, joined in ((" joined the room.", True), (" left the room.", False)):
            user = self._names.get(content.removesuffix(ending))
            if user is not None and content.endswith(ending):
                where = self.name, self.socket, self.room
                self._history.add(h.Line(t, *where, user, joined))

    def _rejected(self, message_id: str, error: SendRejected) -> None:
        """Not confirmed in time: perhaps ask again, with the same id."""
        again = self._again.get(message_id, 0)
        if error.code != "STORAGE_UNAVAILABLE" or not self.retries or again >= 3:
            return
        self._again[message_id] = again + 1
        with contextlib.suppress(OutboxFull, ValueError):
            self._put(message_id, *self._words[message_id])


def wrong(refusals: Counter[str]) -> dict[str, int]:
    """Of the reasons for not being let in, those that are nobody's right to give."""
    return {k: n for k, n in refusals.items() if "died" in k or " 500" in k}


def _id_of(frame: bytes) -> str:
    if b'"id"' not in frame:
        return ""
    decoded: dict[str, Any] = json.loads(frame)
    return str(decoded.get("id", ""))


def _why(error: BaseException) -> str:
    if isinstance(error, InvalidStatus):
        return f"upgrade refused {error.response.status_code}"
    if isinstance(error, SessionEnded):
        return "session ended"
    if isinstance(error, ApiError):
        return f"ticket refused {error.status} {error.code}"
    if isinstance(error, Unreachable):
        return "no answer to the ticket request"
    return type(error).__name__
