"""An OpenAI-compatible server of the tests' own, on a real socket, with its moods.

`mood` is how it answers: plain or streaming, slowly, wrongly, half, or not at all. What
it was asked is in `asked`, with what headers in `headers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

Json = dict[str, Any]


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One server-sent event."""
    delta = {} if text is None else {"content": text}
    body = {"choices": [{"delta": delta, "finish_reason": finish}], **more}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


class ModelServer:
    """`moods` are used up one by one; the last one stays."""

    def __init__(self) -> None:
        self.moods = ["streaming"]
        self.text = "Hello there. How are you?"
        self.asked: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.news = asyncio.Event()
        self.go_on = asyncio.Event()
        self.url = ""
        self._served: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served[task] = writer
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            del self._served[task]

    async def end(self) -> None:
        """Every connection is closed, whoever waits on it goes on to its end."""
        self.go_on.set()
        for writer in self._served.values():
            writer.close()
        if self._served:
            await asyncio.wait(list(self._served))

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.paths.append(head[0].split()[1])
        self.headers.append(headers)
        self.asked.append(msgspec.json.decode(body))
        self.news.set()
        mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]
        return await self._answer(mood, writer)

    async def _answer(self, mood: str, writer: asyncio.StreamWriter) -> bool:
        if mood == "silent":
            await self.go_on.wait()
            return False
        if mood.isdigit():
            _whole(writer, int(mood), b'{"error":"no"}')
            return True
        if mood == "plain":
            usage = {"total_tokens": 21}
            choice = {"message": {"content": self.text}, "finish_reason": "stop"}
            answer = {"choices": [choice], "usage": usage}
            _whole(writer, 200, msgspec.json.encode(answer))
            return True
        if mood == "malformed":
            _whole(writer, 200, b'{"choices": [{"message": ')
            return True
        if mood == "endless":
            _whole(writer, 200, b"x" * 300_000)
            return True
        if mood == "resets":
            writer.transport.abort()
            return False
        await self._stream(mood, writer)
        return False

    async def _stream(self, mood: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Connection: close\r\n\r\n: a comment\n\n"
        )
        for word in self.text.split(" "):
            writer.write(chunk(f"{word} "))
            await writer.drain()
            if mood == "slow":
                await self.go_on.wait()
                self.go_on.clear()
            if mood == "truncated":
                return
            if mood == "breaks":
                writer.write(b"data: {oops\n\n")
        writer.write(chunk(finish="stop"))
        writer.write(chunk(usage={"total_tokens": 42}))
        writer.write(b"data: [DONE]\n\n")


def _whole(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    model = ModelServer()
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.close()
        await model.end()
