"""A namespace server by hand: it says that it is alive, and else what the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from cfmessenger.link.calls import (
    ALIVE,
    HELLO,
    MAX_FRAME,
    Answer,
    Request,
    check_proof,
    frame,
    greet,
)
from cfmessenger.link.framing import read_frame
from cfmessenger.link.greeting import NONCE_BYTES
from cfmessenger.link.secured import Serving, serve_stream

Asked = tuple[Request, asyncio.StreamWriter]


class Script:
    """A server that does nothing by itself but to live, and not even that when it is
    not `alive`. `hangs_up`: it closes at each call that is no sign of life."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Asked] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []
        self.alive = True
        self.hangs_up = False
        self.old = False  # it knows no such verb
        self.calls = 0  # so far, signs of life aside
        self.signs = 0  # of life, that it was asked for
        self.key = "secret"  # of who proves one
        self._server: Serving | None = None

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writers.append(writer)
        try:
            while True:
                body = await read_frame(reader, MAX_FRAME)
                request = msgspec.msgpack.decode(body, type=Request)
                if request.verb == HELLO and not self.alive:
                    continue
                if request.verb == HELLO:
                    self.signs += 1
                    said, welcome = greet(request, self.key, b"n" * NONCE_BYTES)
                    writer.write(frame(welcome))
                    proof = msgspec.msgpack.decode(
                        await read_frame(reader, MAX_FRAME), type=Request
                    )
                    check_proof(proof, self.key, said)
                    continue
                self.signs += request.verb == ALIVE
                if request.verb != ALIVE:
                    self.calls += 1
                    if self.hangs_up:
                        break
                    self.requests.put_nowait((request, writer))
                elif self.alive:
                    error = "UNAVAILABLE" if self.old else None
                    writer.write(answer(request, True, error))
        except EOFError:
            pass
        writer.close()

    async def start(self, url: str) -> str:
        """Listen; the URL to reach it."""
        self._server = await serve_stream(url, self.serve)
        if url.startswith("tcp"):
            return f"tcp://127.0.0.1:{self._server.port}"
        return url

    def stop(self) -> None:
        """Leave in good order."""
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.close()


def answer(request: Request, result: object, error: str | None = None) -> bytes:
    raw = msgspec.Raw(msgspec.msgpack.encode(result))
    return frame(Answer(request.id, error, "said the server" if error else None, raw))


@asynccontextmanager
async def scripted(url: str = "tcp://127.0.0.1:0") -> AsyncIterator[tuple[Script, str]]:
    """A server that runs, and where."""
    script = Script()
    at = await script.start(url)
    try:
        yield script, at
    finally:
        script.stop()
