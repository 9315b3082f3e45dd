"""The asyncio shell around the state machines of state.py: sockets that come back.

Owns dialling with a fresh ticket, reconnecting with `since`, keepalive, and turning
acknowledgements into results of `send`. Decides nothing about frames: that is the
machine's part (state.py), nor about close codes (reconnect.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from cfmessenger.backoff import Backoff
from cfmessenger.client.envelope import api_error
from cfmessenger.client.errors import (
    ApiError,
    ClientError,
    ConnectionEnded,
    Refused,
    SendTimeout,
    SessionEnded,
    Unreachable,
    ended_by_close,
)
from cfmessenger.client.events import Acknowledged, Lost, Rejected
from cfmessenger.client.mailbox import Mailbox, MailboxClosed
from cfmessenger.client.reconnect import reconnects, refusal_is_final
from cfmessenger.client.state import ClientState
from cfmessenger.client.urls import is_loopback, websocket_url
from cfmessenger.wire.events import Message

S = TypeVar("S", bound=ClientState)

#: A new connection measures the clock at once, then keeps measuring slowly.
_FIRST_PINGS_S = (0.0, 0.2, 0.2)
_MAX_FRAME = 8 * 1024 * 1024
#: So many 401 in a row mean that the session is over, not that a ticket died.
_REFUSED_401_LIMIT = 3


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection behaves; the defaults suit a person's client.

    `events_limit` bounds what waits for the reader: a full mailbox stops the reading,
    acknowledgements of `send` included. `listen=False` keeps no events at all.
    """

    listen: bool = True
    events_limit: int = 1024
    outbox_limit: int = 256
    base_delay_s: float = 1.0
    max_delay_s: float = 15.0
    stable_after_s: float = 5.0
    ping_every_s: float = 20.0
    #: Nothing heard for so long while listening, pongs included: the socket is dead.
    silence_s: float = 45.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 2.0


DEFAULTS = Options()


class Connection(Generic[S]):
    """A socket that reconnects by itself. Use `async with`, then `async for`.

    Entering waits for the first connection and raises what makes one impossible;
    transient faults are retried for ever. Iteration yields the server's frames and the
    events of events.py; it ends after `aclose`, and raises `ConnectionEnded` after a
    final close code. All on one event loop.
    """

    def __init__(
        self,
        url: str,
        path: str,
        state: S,
        ticket: Callable[[], Awaitable[str]],
        options: Options,
    ) -> None:
        self.state = state
        self._url = url
        self._path = path
        self._ticket = ticket
        self._options = options
        # What was received and not iterated over yet; closed at the end.
        self._events: Mailbox[object] = Mailbox(options.events_limit)
        # By message id, from a send until its answer or timeout.
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._backoff = Backoff(
            random.uniform, base_s=options.base_delay_s, cap_s=options.max_delay_s
        )
        self._refused_401 = 0  # in a row
        self._opened = asyncio.Event()  # set while connected, and for good at the end
        self._wake = asyncio.Event()  # set when the state may have frames to write
        self._socket: ClientConnection | None = None  # while connected
        self._task: asyncio.Task[None] | None = None  # from `start` on
        self._ended: ClientError | None = None  # from the end on: why
        # Runs evenly even if somebody sets the clock; close to Unix time at the start.
        self._anchor = time.time() - time.monotonic()

    def start(self) -> None:
        """Begin connecting in the background; `async with` does it for you."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"cfm {self._path}")

    async def wait_open(self) -> None:
        """Until connected; raises `ConnectionEnded` if that will never be."""
        await self._opened.wait()
        if self._ended is not None:
            raise self._ended

    async def aclose(self) -> None:
        """Write what waits, close, and end the iteration. Not yet acknowledged sends
        raise `ConnectionEnded`; they may have been accepted."""
        if self._task is None or self._task.done():
            self._end(ended_by_close(1000, ""))
            return
        if self._socket is not None:
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                async with asyncio.timeout(self._options.close_timeout_s):
                    await self._flush(self._socket)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.wait_open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        try:
            return await self._events.get()
        except MailboxClosed:
            if self._ended is not None and self._ended.code != "CLOSED":
                raise self._ended from None
            raise StopAsyncIteration from None

    @property
    def connected(self) -> bool:
        """Whether there is a socket now."""
        return self._socket is not None

    def now(self) -> float:
        """This machine's clock as the state machine sees it, Unix ms."""
        return (self._anchor + time.monotonic()) * 1000

    def server_now(self) -> float:
        """The server's clock, by the measured offset, Unix ms."""
        return self.state.offset.server_time(self.now())

    def delay_until(self, server_moment: float) -> float:
        """Seconds until the server's clock shows `server_moment` (a `playAt`)."""
        return self.state.offset.delay(self.now(), server_moment) / 1000

    async def _acknowledged(self, message_id: str, timeout_s: float | None) -> Message:
        if self._ended is not None:
            self.state.forget(message_id)
            raise self._ended
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = future
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise SendTimeout(message_id) from None
        finally:
            del self._waiting[message_id]
            self.state.forget(message_id)

    async def _run(self) -> None:
        try:
            while True:
                lost = await self._once()
                await self._deliver(lost)
                await asyncio.sleep(lost.retry_s)
        except ConnectionEnded as error:
            self._end(error)
        except asyncio.CancelledError:
            self._end(ended_by_close(1000, ""))
            raise
        except BaseException as error:
            self._end(ConnectionEnded("INTERNAL_ERROR", f"client bug: {error!r}"))
            raise

    async def _once(self) -> Lost:
        """One try: dial, serve until the socket is gone, say when to try again."""
        try:
            socket = await self._dial()
        except (ApiError, Unreachable) as error:
            wait = error.retry_after_s if isinstance(error, ApiError) else None
            return self._lost(0, error.message, wait or 0.0)
        began = time.monotonic()
        try:
            code, reason = await self._serve(socket)
        finally:
            self._socket = None
            self._opened.clear()
            self.state.lost()
            await socket.close()
        if not reconnects(code):
            raise ended_by_close(code, reason)
        if time.monotonic() - began >= self._options.stable_after_s:
            self._backoff.reset()
        return self._lost(code, reason, 0.0)

    def _lost(self, code: int, reason: str, wait_s: float) -> Lost:
        delay = self._backoff.delay(wait_s)
        return Lost(code, reason, delay, self._backoff.attempt)

    async def _dial(self) -> ClientConnection:
        """Raises `ConnectionEnded` for good, `ApiError` or `Unreachable` for now."""
        try:
            state, ticket = self.state, await self._ticket()
            url = websocket_url(self._url, self._path, ticket, state.since, state.era)
            socket = await connect(
                url,
                compression=None,
                proxy=None if is_loopback(url) else True,
                open_timeout=self._options.open_timeout_s,
                close_timeout=self._options.close_timeout_s,
                ping_interval=None,  # ours is `ping`, which also measures the clock
                max_size=_MAX_FRAME,
            )
        except InvalidStatus as refusal:
            answer = refusal.response
            error = api_error(
                answer.status_code,
                bytes(answer.body or b""),
                answer.headers.get("Retry-After"),
            )
            raise self._judged(error) from None
        except ApiError as error:
            raise self._judged(error) from error
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError) as error:
            # Not the error itself: its text may show the URL, and so the ticket.
            raise Unreachable(f"no socket from {self._url}: {_kind(error)}") from None
        self._refused_401 = 0
        return socket

    def _judged(self, error: ApiError) -> ApiError | ConnectionEnded:
        self._refused_401 = self._refused_401 + 1 if error.status == 401 else 0
        if self._refused_401 >= _REFUSED_401_LIMIT:
            return SessionEnded(error.code, error.message)
        if refusal_is_final(error.status):
            return Refused(error.code, error.message)
        return error

    async def _serve(self, socket: ClientConnection) -> tuple[int, str]:
        self._socket = socket
        await self._deliver(*self.state.opened())
        self._opened.set()
        self._wake.set()
        helpers = [
            asyncio.create_task(self._write(socket)),
            asyncio.create_task(self._measure()),
        ]
        try:
            return await self._read(socket)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> tuple[int, str]:
        try:
            while True:
                async with asyncio.timeout(self._options.silence_s):
                    data = await socket.recv(decode=False)
                await self._deliver(*self.state.received(self.now(), data))
                if self.state.has_output:
                    self._wake.set()
        except TimeoutError:
            socket.transport.abort()
            return 1006, "nothing heard"
        except ConnectionClosed as closed:
            frame = closed.rcvd
            return (frame.code, frame.reason) if frame is not None else (1006, "")

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader sees it too
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._flush(socket)

    async def _flush(self, socket: ClientConnection) -> None:
        for frame in self.state.take():
            await socket.send(frame, text=True)

    async def _measure(self) -> None:
        every_s = self._options.ping_every_s
        for pause_s in itertools.chain(_FIRST_PINGS_S, itertools.repeat(every_s)):
            await asyncio.sleep(min(pause_s, every_s))
            self.state.ping(self.now())
            self._wake.set()

    async def _deliver(self, *events: object) -> None:
        for event in events:
            match event:
                case Acknowledged(id=message_id, message=message):
                    future = self._waiting.get(message_id)
                    if future is not None and not future.done():
                        future.set_result(message)
                case Rejected(id=message_id, error=error):
                    future = self._waiting.get(message_id)
                    if future is not None and not future.done():
                        future.set_exception(error)
                case _ if self._options.listen:
                    await self._events.put(event)

    def _end(self, error: ClientError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._events.close()
        self._opened.set()


def _kind(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
