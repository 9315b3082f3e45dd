"""uvicorn as we run it, over raw TCP: what bare uvicorn lets through is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from cfmessenger.settings import Settings
from gateway.server import handshake, http_protocol
from gateway.server.configuration import server_config
from gateway.server.websocket_protocol import WebSocket
from tests import patience
from tests.gateway.edge import Gateway, serving, settings_for
from tests.gateway.server.echo import Echo, echoing, enveloped, parsed
from tests.patience import Stopwatch

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = f"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}"
VERSION = "Sec-WebSocket-Version: 13\r\n"


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with echoing(valkey_url) as running:
        yield running


# Deadlines


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
    ],
    ids=["silent", "half a head", "half a body", "half a second request"],
)
async def test_a_request_that_does_not_come_to_its_end(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_S", 0.1)
    async with echoing(valkey_url) as edge:
        before = Stopwatch()
        answer = await edge.raw(sent)
        assert before.wall > 0.09 and before.seconds < 2
        assert answer.count(b"200 OK") == sent.count(b"\r\n\r\nGET")


async def test_a_body_that_goes_on_after_its_answer(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.1)

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Echo()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(refusing, settings_for(valkey_url)) as edge:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(head)
        assert b" 413 " in await reader.readline()
        before = Stopwatch()
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x" * 1000)
            await asyncio.wait([ended], timeout=0.02)
        assert before.seconds < 1
        ended.exception()  # a reset, if it was writing at that moment
        writer.close()


async def test_a_head_that_drips_has_the_same_deadline(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_S", 0.2)
    async with echoing(valkey_url) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        before = Stopwatch()
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.02)
        assert before.seconds < 1
        writer.close()


async def test_a_connection_between_requests_and_a_socket_are_let_be(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_S", 0.05)
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.05)
    async with echoing(valkey_url) as edge:
        url = f"ws://127.0.0.1:{edge.port}/"
        async with edge.client() as http, connect(url, proxy=None) as socket:
            await http.get("/")
            await asyncio.sleep(0.15)
            await socket.send("still here")
            assert await socket.recv() == "still here"
            answer = await http.post("/", content=b"again")
            assert answer.content == b"again"


async def test_a_handshake_that_nobody_answers(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.1)
    async with echoing(valkey_url) as edge:
        request = f"GET /never HTTP/1.1\r\n{UPGRADE}{VERSION}\r\n".encode()
        headers = enveloped(await edge.raw(request), 503, "UNAVAILABLE")
        assert headers["retry-after"] == "1"
        async with patience.within(1):
            await edge.app.ended.wait()


async def test_an_answer_that_nobody_reads(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "STALLED_WRITE_S", 0.1)

    given_up = asyncio.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Echo()(scope, receive, send)
            return
        await receive()
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            body = {"type": "http.response.body", "body": b"x" * 100_000}
            await send(body | {"more_body": True})
            await asyncio.sleep(0)
        given_up.set()

    async with serving(large, settings_for(valkey_url)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with patience.within(3):
            await given_up.wait()
        writer.close()


# Heads that are refused

LONG = "x" * 9_000
POST = "POST / HTTP/1.1\r\nHost: x\r\n"
MANY = "".join(f"X-{n}: y\r\n" for n in range(101))


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        (f"GET /{LONG} HTTP/1.1\r\nHost: x\r\n\r\n", 414, "URI_TOO_LONG"),
        (
            f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {LONG}\r\n\r\n",
            431,
            "HEADERS_TOO_LARGE",
        ),
        (f"GET / HTTP/1.1\r\nHost: x\r\n{MANY}\r\n", 431, "HEADERS_TOO_LARGE"),
        (f"GET / HTTP/1.1\r\nX: {'y' * 40_000}", 431, "HEADERS_TOO_LARGE"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "BAD_REQUEST",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
            400,
            "BAD_REQUEST",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            400,
            "BAD_REQUEST",
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400, "BAD_REQUEST"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "BAD_REQUEST"),
        ("hello\r\n\r\n", 400, "BAD_REQUEST"),
        # RFC 9112 §2.3: a version that is not spoken here.
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505, "BAD_REQUEST"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "BAD_REQUEST"),
        ("GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, "BAD_REQUEST"),
        # §2.2, §5.2: what is no end of a line, and lines that go on.
        (f"{POST}Transfer-Encoding: chunked\n\r\n0\r\n\r\n", 400, "BAD_REQUEST"),
        (f"{POST}Transfer-Encoding:\r\n chunked\r\n\r\n", 400, "BAD_REQUEST"),
        (f"{POST}Transfer-Encoding:\r\n\tchunked\r\n\r\n", 400, "BAD_REQUEST"),
        (f"{POST}X: y\rZ: z\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\r\nHost: x\n\n", 400, "BAD_REQUEST"),
        # §6: how the body is framed.
        (f"{POST}Transfer-Encoding: gzip\r\n\r\n", 501, "BAD_REQUEST"),
        (f"{POST}Transfer-Encoding: chunked, gzip\r\n\r\n", 501, "BAD_REQUEST"),
        (f"{POST}Transfer-Encoding : chunked\r\n\r\n", 400, "BAD_REQUEST"),
        (
            "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "BAD_REQUEST",
        ),
        # §3.2: targets and hosts.
        ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    ],
)
async def test_a_head_that_is_refused(
    edge: Gateway, request_text: str, status: int, code: str
) -> None:
    before = len(edge.app.scopes)
    answer = await edge.raw(request_text.encode("latin-1"))
    enveloped(answer, status, code)
    assert len(edge.app.scopes) == before


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://y.example:8000/healthz?a=b", "/healthz", b"a=b"),
        ("HTTPS://y.example:8000/", "/", b""),
        ("http://y.example:8000", "/", b""),
        ("http://y.example:8000?a", "/", b"a"),
    ],
)
async def test_a_target_in_absolute_form_is_served_and_its_host_counts(
    edge: Gateway, target: str, path: str, query: bytes
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert parsed(await edge.raw(request.encode()))[0] == 200
    scope = edge.app.scopes[-1]
    assert (scope["path"], scope["query_string"]) == (path, query)
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    assert hosts == [b"y.example:8000"]


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n\r\n"])
async def test_an_empty_line_before_a_request_is_passed_over(
    edge: Gateway, blank: bytes
) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await edge.raw(blank + post + blank + last)
    assert answer.count(b"200 OK") == 2


async def test_whoever_sends_nothing_but_empty_lines_has_a_deadline(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_S", 0.1)
    async with echoing(valkey_url) as edge:
        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        async with patience.within(4):
            writer.write(whole)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\r\n")
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (f"{VERSION}Cookie: {LONG}\r\n", 431, "HEADERS_TOO_LARGE"),
        (f"{VERSION}{MANY}", 431, "HEADERS_TOO_LARGE"),
        (f"{VERSION}Content-Length: 5\r\n", 400, "BAD_REQUEST"),
        (f"{VERSION}Transfer-Encoding: chunked\r\n", 400, "BAD_REQUEST"),
        (f"{VERSION}X: a\x01b\r\n", 400, "BAD_REQUEST"),
        ("Sec-WebSocket-Version: 8\r\n", 426, "UPGRADE_REQUIRED"),
        ("", 400, "BAD_REQUEST"),
        (f"{VERSION}{KEY}", 400, "BAD_REQUEST"),
        (f"{VERSION}Origin: a\r\nOrigin: b\r\n", 400, "BAD_REQUEST"),
    ],
)
async def test_an_upgrade_that_is_refused_instead_of_hanging(
    edge: Gateway, more: str, status: int, code: str
) -> None:
    before = len(edge.app.scopes)
    request = f"GET / HTTP/1.1\r\n{UPGRADE}{more}X-Request-Id: mine\r\n\r\n"
    started = Stopwatch()
    headers = enveloped(await edge.raw(request.encode("latin-1")), status, code)
    assert started.seconds < 1
    if status == 426:
        assert headers["upgrade"] == "websocket"
        assert headers["sec-websocket-version"] == "13"
    assert len(edge.app.scopes) == before


async def test_a_short_websocket_key(edge: Gateway) -> None:
    head = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")
    request = f"GET / HTTP/1.1\r\n{head}{VERSION}X-Request-Id: mine\r\n\r\n"
    headers = enveloped(await edge.raw(request.encode()), 400, "BAD_REQUEST")
    assert headers["x-request-id"] == "mine"


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "GET / HTTP/1.0"])
async def test_what_cannot_be_an_upgrade_is_a_request(edge: Gateway, line: str) -> None:
    request = f"{line}\r\n{UPGRADE}{VERSION}Content-Length: 0\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    async with patience.within(2):
        assert b"200 OK" in await reader.readline()
    writer.close()
    assert edge.app.scopes[-1]["type"] == "http"


async def test_no_header_says_what_we_run(edge: Gateway) -> None:
    async with edge.client() as http:
        assert "server" not in (await http.get("/")).headers
    async with connect(f"ws://127.0.0.1:{edge.port}/", proxy=None) as socket:
        assert "Server" not in socket.response.headers
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_nothing_logs_a_url_with_its_query(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with edge.client() as http:
        await http.get("/x", params={"sessionId": "secret-1"})
    url = f"ws://127.0.0.1:{edge.port}/?sessionId=secret-2"
    subprotocols = ["cfm.v1", "bearer.secret-3"]
    async with connect(url, proxy=None, subprotocols=subprotocols):
        pass
    ours = [r.getMessage() for r in caplog.records if "client" not in r.name]
    ours = [line for line in ours if "HTTP Request: GET" not in line]
    assert not [line for line in ours if "secret-" in line]


# Configuration


def test_the_configuration(valkey_url: str) -> None:
    settings = settings_for(valkey_url, host="127.0.0.9", port="8123", drain_s="2.5")
    config = server_config("cfmessenger.asgi:app", settings)
    assert (config.host, config.port, config.factory) == ("127.0.0.9", 8123, True)
    assert config.forwarded_allow_ips == ["127.0.0.1/32"]
    assert config.proxy_headers
    assert config.timeout_graceful_shutdown == 3
    assert not config.access_log and not config.server_header
    assert config.ws_ping_interval is None and not config.ws_per_message_deflate


def test_a_uvicorn_of_ones_own_finds_the_websocket_by_its_name() -> None:
    name = "gateway.server.websocket_protocol:WebSocket"
    config = uvicorn.Config(Echo(), ws=name, log_config=None)
    config.load()
    assert config.ws_protocol_class is WebSocket
    assert f"--ws {name}" in (Path(__file__).parents[3] / "README.md").read_text()


async def test_a_spoofed_address_is_not_believed(valkey_url: str) -> None:
    settings = settings_for(valkey_url, trusted_proxies="192.0.2.0/24")
    async with serving(Echo(), settings) as edge:
        async with edge.client() as http:
            await http.get("/", headers={"X-Forwarded-For": "203.0.113.7"})
        assert edge.app.scopes[-1]["client"][0] == "127.0.0.1"
    async with echoing(valkey_url) as edge, edge.client() as http:
        await http.get("/", headers={"X-Forwarded-For": "203.0.113.7"})
        assert edge.app.scopes[-1]["client"][0] == "203.0.113.7"


async def test_whoever_is_at_the_door_when_it_stops_is_told_to_try_again(
    valkey_url: str,
) -> None:
    entered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        entered.set()
        await asyncio.Event().wait()  # never answers

    settings = Settings.load({"CFM_VALKEY_URL": valkey_url, "CFM_DRAIN_S": "0"})
    config = server_config(app, replace(settings, port=0))
    edge = uvicorn.Server(config)
    stopped = asyncio.create_task(edge.serve())
    while not edge.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = edge.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /api/ws/presence HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with patience.within(5):
        await entered.wait()
        edge.should_exit = True
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer.lower() and b'"UNAVAILABLE"' in answer
    writer.close()
    await stopped
