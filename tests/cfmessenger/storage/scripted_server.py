"""Something that listens where a Valkey should be, and says what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Its URL. It lets everybody in, and tells nobody which role it has."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1000)
            writer.write(b"+PONG\r\n-NOPERM\r\n")
            await answer(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"valkey://127.0.0.1:{port}"
    finally:
        listener.close()


def says(reply: bytes) -> Answer:
    """The same to all that it is sent."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while await reader.read(1000):
            writer.write(reply)

    return answer


def bulk(text: str) -> bytes:
    """A bulk reply."""
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())
