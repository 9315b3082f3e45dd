"""Streams with TLS: who gets in, what the log says of who does not, and renewals."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cfmessenger.link import secured
from cfmessenger.link.secured import Entrance, NoPort, open_stream, serve_stream
from cfmessenger.settings import Ports
from cfmessenger.tls import Files, Trust
from tests import patience
from tests.authority import MISSING, Authority
from tests.gateway.node import eventually

needs_openssl = pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
"""Namespace servers run on the one, gateways and actors on the other."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def echoes(at: str, trust: Trust | None, text: bytes = b"x") -> bool:
    """Whether it is answered there."""
    try:
        reader, writer = await open_stream(at, trust)
    except OSError:
        return False
    try:
        writer.write(text)
        return await patience.wait_for(reader.readexactly(len(text)), 10) == text
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@needs_openssl
@LOOPS
def test_who_is_not_of_this_authority_is_one_line_and_hears_nothing(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "theirs").mkdir()
    ours, theirs = Authority(tmp_path), Authority(tmp_path / "theirs")
    stranger = theirs.sign("x")
    strangers = {
        "its certificate is not good: unable to get local issuer certificate": Files(
            ours.pem, stranger.cert, stranger.key
        ),
        "its certificate is not good: certificate has expired": ours.sign("x", days=-1),
    }

    async def main() -> None:
        server = await serve_stream(
            "tcp://127.0.0.1:0", echo, Trust(ours.sign("server"))
        )
        at = f"tcp://127.0.0.1:{server.port}"
        assert await echoes(at, Trust(ours.sign("one")), b"x" * 3_000_000)
        for says, files in strangers.items():
            for _ in range(3):
                assert not await echoes(at, Trust(files))
            await eventually(lambda s=says: f"127.0.0.1 is refused: {s}" in caplog.text)
        assert not await echoes(at, None, b"GET / HTTP/1.1\r\n\r\n")
        await eventually(lambda: "is refused: no TLS: " in caplog.text)
        assert len(caplog.messages) == 3, "each of them once in a minute"
        assert await echoes(at, Trust(ours.sign("one")))
        server.close()

    run(main())


@needs_openssl
@LOOPS
def test_a_certificate_is_renewed_under_a_connection_that_notices_nothing(
    run: Run, tmp_path: Path
) -> None:
    first = Authority(tmp_path)
    server, caller = Trust(first.sign("server")), Trust(first.sign("caller"))

    async def main() -> None:
        serving = await serve_stream("tcp://127.0.0.1:0", echo, server)
        at = f"tcp://127.0.0.1:{serving.port}"
        reader, writer = await open_stream(at, caller)
        old = caller.calling()
        # Another authority altogether, in the same files.
        second = Authority(tmp_path)
        second.sign("server")
        second.sign("caller")
        assert await echoes(at, caller)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", serving.port, ssl=old)
        writer.write(b"still here")
        assert await patience.wait_for(reader.readexactly(10), 10) == b"still here"
        writer.close()
        await writer.wait_closed()
        serving.close()

    run(main())


@needs_openssl
async def test_silence_in_a_handshake_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(secured, "HANDSHAKE_S", 0.1)
    server = Trust(Authority(tmp_path).sign("server"))
    serving = await serve_stream("tcp://127.0.0.1:0", echo, server)
    reader, writer = await open_stream(f"tcp://127.0.0.1:{serving.port}")
    assert await patience.wait_for(reader.read(), 10) == b""
    await eventually(lambda: "127.0.0.1 is refused: " in caplog.text)
    writer.close()
    serving.close()


@needs_openssl
async def test_handshakes_are_bounded_and_whoever_has_a_connection_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(secured, "MOST_HANDSHAKES", 2)
    ours = Authority(tmp_path)
    server = await serve_stream("tcp://127.0.0.1:0", echo, Trust(ours.sign("server")))
    at = f"tcp://127.0.0.1:{server.port}"
    silent = [await open_stream(at) for _ in range(2)]
    one = Trust(ours.sign("one"))

    async def turned_away() -> bool:
        return not await echoes(at, one) and "too many handshakes" in caplog.text

    await eventually(turned_away)
    for _, writer in silent:
        writer.close()

    async def let_in() -> bool:
        return await echoes(at, one)

    await eventually(let_in)
    server.close()


async def test_a_listener_takes_a_port_of_its_range_and_says_when_none_is_left() -> (
    None
):
    ports = _free(3)
    opened = [Entrance(asyncio.Protocol, None, "links") for _ in range(4)]
    for each in opened[:3]:
        await each.open("127.0.0.1", ports)
    assert {each.port for each in opened[:3]} == set(range(ports.first, ports.last + 1))
    with pytest.raises(NoPort) as caught:
        await opened[3].open("127.0.0.1", ports)
    assert str(caught.value) == (
        f"no port of CFM_LINK_PORTS ({ports}) is free at 127.0.0.1: each actor process "
        "of a machine needs one; give it more"
    )
    opened[1].close()

    async def again() -> bool:
        with suppress(NoPort):
            await opened[3].open("127.0.0.1", ports)
        return opened[3].port == opened[1].port

    await eventually(again)
    for each in opened:
        each.close()


def _free(count: int) -> Ports:
    """So many ports in a row that nobody has now."""
    for first in range(20_000, 30_000, count):
        taken = []
        try:
            taken.extend(
                socket.create_server(("127.0.0.1", port))
                for port in range(first, first + count)
            )
        except OSError:
            continue
        finally:
            for each in taken:
                each.close()
        return Ports(first, first + count - 1)
    raise AssertionError("no ports")
