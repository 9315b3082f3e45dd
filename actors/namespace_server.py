"""The namespace server: answers gateways on a stream, in front of any `Namespace`.

One per node, a process of its own, so that everything slow, blocking or fatal about
being a Ray driver stays away from the sockets (design.md §2). It keeps no state that
matters: killed and started again, it knows what Ray knows.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import secrets
import sys
from bisect import bisect_right
from functools import partial
from itertools import islice

import msgspec

from cfmessenger.background import Background
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link.calls import (
    HELLO,
    MAX_FRAME,
    Answer,
    Request,
    check_proof,
    frame,
    greet,
)
from cfmessenger.link.framing import read_frame
from cfmessenger.link.greeting import NONCE_BYTES, Refusal
from cfmessenger.link.namespace import MOVED, PAGE, Address, Described, Namespace
from cfmessenger.link.secured import Serving, serve_stream
from cfmessenger.seldom import Seldom
from cfmessenger.tls import Trust
from cfmessenger.wire.complaint import UNREADABLE

logger = logging.getLogger("cfmessenger.namespace")

MAX_CALLS = 1000
"""Calls under way on one connection; a gateway asks once per name, so this is ample."""
HELLO_S, HELLO_BYTES = 5.0, 4096
"""For the first call of a connection, which shows the key, and for its frame."""
MOST_CALLERS = 1000
"""Open connections. Beyond gateways only people's commands make any."""
PAGE_BYTES = MAX_FRAME - 4096
ROWS_KEPT_S = 10.0
"""A description whose first page was asked for; its next pages are of the same look."""


class NamespaceServer:
    """Serves one backend on `unix:<path>` or `tcp://host:port` (which needs a key).

    Strangers cost little: who does not show the key in its first frame, which is small
    and soon there, is hung up on, and so is who comes when `most_callers` are there.
    """

    def __init__(
        self,
        backend: Namespace,
        url: str,
        key: str = "",
        *,
        trust: Trust | None = None,
        hello_s: float = HELLO_S,
        most_callers: int = MOST_CALLERS,
    ) -> None:
        self._trust = trust
        self._backend = backend
        self._url = url
        self._key = key
        self._hello_s = hello_s
        self._most_callers = most_callers
        self._refused = Seldom(logger)
        self._server: Serving | None = None  # from `start` to `close`
        self._answering = Background()  # calls under way
        self._callers: set[asyncio.StreamWriter] = set()  # open connections
        # By name, `moved` and `lost`: many gateways ask for one room at once.
        self._resolving = Flights[Address]()
        self._storing = Flights[bool]()
        self._draining = Flights[int]()
        self._rows: list[Described] = []  # the last description
        self._described_at = -math.inf  # when it was asked for

    async def start(self) -> None:
        """Listen, unless it does. Raises ValueError for an open TCP port without a
        key."""
        if self._server is not None:
            return
        if not self._url.startswith("unix:") and not self._key:
            raise ValueError("a namespace server on TCP needs a key")
        self._server = await serve_stream(self._url, self._serve, self._trust)

    async def close(self) -> None:
        """Stop answering; calls under way are dropped."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for caller in tuple(self._callers):
            caller.close()
        self._answering.cancel()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._callers) >= self._most_callers:
            self._refused.warn("many", "connections to the namespace are too many")
            writer.close()
            return
        room = asyncio.Semaphore(MAX_CALLS)
        self._callers.add(writer)
        try:
            async with asyncio.timeout(self._hello_s):
                request = await self._request(reader, HELLO_BYTES)
                proved = request.verb == HELLO and bool(self._key)
                if proved:
                    await self._greet(request, reader, writer)
            if proved:
                request = await self._request(reader, MAX_FRAME)
            while True:
                if not proved:
                    self._check_key(request)
                await room.acquire()
                task = self._answering.begin(self._answer(request, writer))
                task.add_done_callback(lambda _: room.release())
                request = await self._request(reader, MAX_FRAME)
        except Refusal as refusal:
            host = (writer.get_extra_info("peername") or ("somebody",))[0]
            told = f"a caller of the namespace at {host} is refused: {refusal}"
            self._refused.warn(f"{host} {refusal.kind}", told)
        except (EOFError, TimeoutError, *UNREADABLE):
            pass
        finally:
            self._callers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, most: int) -> Request:
        """The next one."""
        body = await read_frame(reader, most)
        return msgspec.msgpack.decode(body, type=Request)

    async def _greet(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Either end proves that it knows the key. Raises `Refusal`."""
        try:
            said, welcome = greet(request, self._key, secrets.token_bytes(NONCE_BYTES))
        except Refusal as refusal:
            nothing = msgspec.Raw(msgspec.msgpack.encode(None))
            told = Answer(request.id, "UNAVAILABLE", str(refusal), nothing)
            writer.write(frame(told))
            raise
        writer.write(frame(welcome))
        check_proof(await self._request(reader, HELLO_BYTES), self._key, said)

    def _check_key(self, request: Request) -> None:
        """Of the release before, which shows it each time. Raises `Refusal`."""
        if not self._key:
            return  # whoever may open our Unix socket
        if self._trust is not None:
            raise Refusal("it sends its key, and TLS is configured")
        if not hmac.compare_digest(request.key.encode(), self._key.encode()):
            raise Refusal("it does not know the key")
        told = "callers of the release before send their keys in clear"
        self._refused.once("old", told)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        nothing = msgspec.Raw(msgspec.msgpack.encode(None))
        try:
            result = await self._call(request.verb, request.args)
            raw = msgspec.Raw(msgspec.msgpack.encode(result))
            answer = frame(Answer(request.id, None, None, raw))
        except Unavailable as problem:
            answer = frame(Answer(request.id, problem.code, problem.message, nothing))
        except Exception:  # an answer that is too long, too
            logger.exception("%s failed", request.verb)
            answer = frame(Answer(request.id, "INTERNAL_ERROR", None, nothing))
        if not writer.is_closing():
            writer.write(answer)

    async def _call(self, verb: str, args: list[str | None]) -> object:
        match verb, args:
            case "resolve", [str(name), hint, *more]:
                moved, lost = more[:1] == [MOVED], (more[1:2] or [None])[0] or ""
                attempt = partial(self._backend.resolve, name, hint, moved, lost)
                return await self._resolving.join((name, moved, lost), attempt)
            case "kill", [str(actor), str(actor_id)]:
                return await self._backend.kill(actor, actor_id)
            case "describe", []:  # a client of before knows no pages
                return await self._page("", sys.maxsize)
            case "describe", [str(after), str(limit)]:
                return await self._page(after, min(_number("limit", limit), PAGE))
            case "storage", []:
                return await self._storing.join("storage", self._backend.stored)
            case "drain", []:
                return await self._draining.join("drain", self._backend.drain)
            case "alive", []:
                return True
            case "ping", []:
                return await self._backend.ping()
            case "wakes", []:
                await self._backend.wakes()
                return None
            case "placement", []:
                return await self._backend.placement()
            case "place", ["auto" | "dedicated" | "pooled" as mode, str(size)]:
                return await self._backend.place(mode, _number("size", size))
            case "pin", [str(name)]:
                return await self._backend.pin(name)
            case "unpin", [str(name)]:
                return await self._backend.unpin(name)
        raise Unavailable(message="The namespace does not know this call.")

    async def _page(self, after: str, limit: int) -> list[Described]:
        """The first rows above `after`: no more than `limit`, and than fit."""
        now = asyncio.get_running_loop().time()
        if not after or now - self._described_at > ROWS_KEPT_S:
            rows = await self._backend.describe()
            self._rows, self._described_at = sorted(rows, key=_name), now
        first, left, page = bisect_right(self._rows, after, key=_name), PAGE_BYTES, []
        for row in islice(self._rows, first, first + limit):
            left -= len(msgspec.msgpack.encode(row))
            if left < 0:
                break
            page.append(row)
        return page


def _name(row: Described) -> str:
    return row.name


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Unavailable("VALIDATION_ERROR", f"{name}: expected a number.")
    return int(text)
