"""What an application may answer to a handshake, and what becomes of it if it does not.

The request's side of it is `test_configuration`'s and `test_rfc6455`'s.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request

from gateway.server.handshake import Handshake
from gateway.server.websocket_protocol import WebSocket
from tests import patience
from tests.gateway.edge import Gateway
from tests.gateway.node import eventually, upgrade
from tests.gateway.server.echo import Client, Echo, echoing, enveloped, parsed


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with echoing(valkey_url) as running:
        yield running


async def test_an_applications_own_refusal_is_whole_and_not_an_error(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://127.0.0.1:{edge.port}/refused", proxy=None):
            pass
    response = caught.value.response
    assert (response.status_code, response.body) == (403, b"no")
    assert response.headers["X-Own"] == "1"
    assert response.headers["Connection"] == "close"
    assert caplog.records == []


async def test_a_close_before_the_accept_is_a_403(edge: Gateway) -> None:
    enveloped(await edge.raw(upgrade("/closed", "none")), 403, "FORBIDDEN")


@pytest.mark.parametrize("path", ["/silent", "/failing"])
async def test_an_application_that_does_not_answer_is_a_500(
    edge: Gateway, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    enveloped(await edge.raw(upgrade(path, "none")), 500, "INTERNAL_ERROR")
    [record] = caplog.records
    assert (record.exc_info is not None) == (path == "/failing")


@pytest.mark.parametrize("path", ["/unwanted", "/received", "/sent"])
async def test_a_socket_that_is_accepted_and_not_taken_over_is_1011(
    edge: Gateway, path: str
) -> None:
    client = await Client.open(edge, path=path)
    assert (await client.closed())[0] == 1011


async def test_an_application_may_end_by_asgi_what_it_has_accepted(
    edge: Gateway,
) -> None:
    async with connect(f"ws://127.0.0.1:{edge.port}/ended", proxy=None) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4501, "why")


async def test_a_client_that_leaves_before_its_answer_is_told_to_the_application(
    valkey_url: str,
) -> None:
    async with echoing(valkey_url) as edge:
        app: Echo = edge.app
        _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(upgrade("/never", "none"))
        await eventually(lambda: app.scopes)
        writer.transport.abort()
        async with patience.within(5):
            await app.ended.wait()


async def test_what_the_scope_says(edge: Gateway) -> None:
    path = "/api/%C3%A9/x?a=b%20c"
    more = ("X-Odd: \xe9", "Sec-WebSocket-Protocol: a, b", "X-Forwarded-For: 1.2.3.4")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(upgrade(path, "none", *more).decode().encode("latin-1"))
    async with patience.within(5):
        head = await reader.readuntil(b"\r\n\r\n")
    assert parsed(head)[0] == 101
    scope = edge.app.scopes[-1]
    assert (scope["path"], scope["raw_path"]) == ("/api/é/x", b"/api/%C3%A9/x")
    assert scope["query_string"] == b"a=b%20c"
    assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
    assert scope["client"][0] == "1.2.3.4"  # the tests' proxy is trusted
    assert scope["server"] == ("127.0.0.1", edge.port)
    assert scope["subprotocols"] == ["a", "b"]
    assert dict(scope["headers"])[b"x-odd"] == b"\xe9"
    writer.close()


def living(kind: type) -> list[Any]:
    return [each for each in gc.get_objects() if type(each) is kind]


async def test_an_open_socket_keeps_nothing_of_its_handshake(valkey_url: str) -> None:
    async with echoing(valkey_url) as edge:
        app: Echo = edge.app
        gc.collect()
        gc.disable()  # it is to be freed at once, not by the collector
        try:
            before = len(living(WebSocket)), len(living(Handshake))
            client = await Client.open(edge, "X-Mark: here")
            await eventually(lambda: not edge.server.server_state.tasks)
            app.scopes.clear()
            assert not [each for each in living(Request) if "X-Mark" in each.headers]
            assert (len(living(WebSocket)) - 1, len(living(Handshake))) == before
            # And the socket itself goes with its connection.
            client.writer.close()
            heard = app.sockets.pop()
            async with patience.within(5):
                await heard.lost.wait()
            del heard
            await eventually(lambda: len(living(WebSocket)) == before[0])
        finally:
            gc.enable()
