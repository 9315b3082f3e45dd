"""The namespace server: answers gateways on a stream, in front of any `Namespace`.

One per node, a process of its own, so that everything slow, blocking or fatal about
being a Ray driver stays away from the sockets (design.md §2). It keeps no state that
matters: killed and started again, it knows what Ray knows.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from functools import partial

import msgspec

from cfmessenger.background import Background
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link.calls import (
    MAX_FRAME,
    Answer,
    Request,
    frame,
    serve_stream,
)
from cfmessenger.link.framing import read_frame
from cfmessenger.link.namespace import MOVED, Address, Namespace
from cfmessenger.wire.complaint import UNREADABLE

logger = logging.getLogger("cfmessenger.namespace")

MAX_CALLS = 1000
"""Calls under way on one connection; a gateway asks once per name, so this is ample."""


class NamespaceServer:
    """Serves one backend on `unix:<path>` or `tcp://host:port` (which needs a key)."""

    def __init__(self, backend: Namespace, url: str, key: str = "") -> None:
        self._backend = backend
        self._url = url
        self._key = key
        self._server: asyncio.Server | None = None  # from `start` on
        self._answering = Background()  # calls under way
        self._callers: set[asyncio.StreamWriter] = set()  # open connections
        # By name, `moved` and `lost`: many gateways ask for one room at once.
        self._resolving = Flights[Address]()

    async def start(self) -> None:
        """Listen. Raises ValueError for an open TCP port without a key."""
        if not self._url.startswith("unix:") and not self._key:
            raise ValueError("a namespace server on TCP needs a key")
        self._server = await serve_stream(self._url, self._serve)

    async def close(self) -> None:
        """Stop answering; calls under way are dropped."""
        if self._server is not None:
            self._server.close()
        for caller in tuple(self._callers):
            caller.close()
        self._answering.cancel()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        room = asyncio.Semaphore(MAX_CALLS)
        self._callers.add(writer)
        try:
            while True:
                body = await read_frame(reader, MAX_FRAME)
                request = msgspec.msgpack.decode(body, type=Request)
                if not hmac.compare_digest(request.key.encode(), self._key.encode()):
                    logger.warning("a caller of the namespace had the wrong key")
                    break
                await room.acquire()
                task = self._answering.begin(self._answer(request, writer))
                task.add_done_callback(lambda _: room.release())
        except (EOFError, *UNREADABLE):
            pass
        finally:
            self._callers.discard(writer)
            writer.close()

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
            case "describe", []:
                return await self._backend.describe()
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


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Unavailable("VALIDATION_ERROR", f"{name}: expected a number.")
    return int(text)
