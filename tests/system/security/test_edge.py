"""The edge: headers on every answer, hosts, addresses, the door, and what is logged."""

import asyncio
import contextlib
import itertools
import logging
import re
import resource
from collections.abc import AsyncIterator, Iterator

import pytest

from cfmessenger.environment import SettingsError
from gateway import origin
from gateway.server.door import (
    RESERVED_FILES,
    Door,
    connections_allowed,
    raise_file_limit,
)
from tests.gateway.edge import (
    Gateway,
    data_of,
    gateway,
    refused,
    serving,
    settings_for,
)
from tests.gateway.node import (
    Refused,
    dial,
    error_of,
    eventually,
    live,
    new_room,
    upgrade,
)
from tests.gateway.server.test_configuration import Echo, enveloped, parsed

LAST = b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STRICT = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with gateway(valkey_url) as running:
        yield running


# Headers.

ANSWERS = {
    "200": (
        b"GET /api/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        200,
    ),
    "200 plain": (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        200,
    ),
    "401": (
        b"GET /api/auth/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        401,
    ),
    "404": (
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        404,
    ),
    "405": (
        b"PUT /api/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        405,
    ),
    "413": (
        b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n"
        b"Connection: close\r\n\r\n" + b"x" * 65_537,
        413,
    ),
    "malformed": (b"hello\r\n\r\n", 400),
    "431": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        431,
    ),
    "handshake 401": (upgrade("/api/ws/presence", ""), 401),
    "handshake 426": (
        upgrade("/api/ws/presence", "").replace(b"Version: 13", b"Version: 8"),
        426,
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_w2_w3_every_answer_has_the_security_headers(
    edge: Gateway, case: str
) -> None:
    request, status = ANSWERS[case]
    found, headers, _ = parsed(await edge.raw(request))
    assert found == status
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == STRICT
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert not {"server", "x-powered-by", "via"} & set(headers)


async def test_w2_a_part_has_what_a_browser_obeys_for_it(edge: Gateway) -> None:
    """Scripts and styles are under their page's policy; a picture may stand alone."""
    document = {
        "referrer-policy": "no-referrer",
        "content-security-policy": STRICT,
        "cross-origin-opener-policy": "same-origin",
    }
    async with edge.client() as http:
        page = (await http.get("/")).text
        kinds = set()
        for path in re.findall(r'(?:href|src)="(/web/[^"]+)"', page):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            kind = path.rpartition(".")[2]
            sent = document.items() & dict(headers).items()
            assert sent == (document.items() if kind == "svg" else set()), path
            kinds.add(kind)
        assert kinds == {"css", "js", "svg"}


async def test_w2_a_page_runs_nothing_but_our_own(edge: Gateway) -> None:
    async with edge.client() as http:
        page = await http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"].split(";")
        rules = {name: values for name, *values in map(str.split, policy)}
        assert rules["default-src"] == ["'none'"]
        assert rules["frame-ancestors"] == rules["base-uri"] == ["'none'"]
        for name, values in rules.items():
            ours = {"'self'", "'none'"} | ({"data:"} if name == "img-src" else set())
            assert set(values) <= ours, name
        assert "<script>" not in page.text and "onclick=" not in page.text


async def test_w5_what_a_client_sends_comes_back_in_no_header(edge: Gateway) -> None:
    evil = "https://evil.example"
    async with edge.client() as http:
        for name in ("Origin", "X-Request-Id", "Access-Control-Request-Headers"):
            answer = await http.get("/api/config", headers={name: f"{evil}%0d%0aX: y"})
            assert "evil" not in str(answer.headers)
        answer = await http.get("/api/rooms/%0d%0aX-Evil:%20evil/messages")
        assert "evil" not in str(answer.headers).lower()


# Hosts.


@pytest.mark.parametrize(
    "host",
    ["", "a b", "x/y", "user@x", "x:port", "x#y", "x?y", "[::1", "x\\y", "x,y", "é"],
)
async def test_http_an_odd_host_is_refused(edge: Gateway, host: str) -> None:
    head = f"Host: {host}\r\nConnection: close\r\n\r\n"
    for request in (f"GET /healthz HTTP/1.1\r\n{head}", f"GET / HTTP/1.0\r\n{head}"):
        enveloped(await edge.raw(request.encode()), 400, "BAD_REQUEST")
    handshake = upgrade("/api/ws/presence", "").replace(b"127.0.0.1", host.encode())
    enveloped(await edge.raw(handshake), 400, "BAD_REQUEST")


OURS = ["localhost", "LocalHost:8000", "127.0.0.1", "[::1]:8000"]


def named(host: str, path: str = "/healthz", more: str = "") -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"
    return head.encode()


@pytest.mark.parametrize("host", [*OURS, "127.0.0.5", "chat.example"])
async def test_http_a_name_of_ours_is_served(valkey_url: str, host: str) -> None:
    allowed = "https://chat.example"
    async with gateway(valkey_url, host="127.0.0.5", allowed_origins=allowed) as edge:
        for path in ("/healthz", "/metrics", "/api/config"):
            assert parsed(await edge.raw(named(host, path)))[0] == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/config", "/none"])
@pytest.mark.parametrize(
    "host", ["rebind.example", "rebind.example:8000", "localhost.rebind.example"]
)
async def test_http_a_page_that_was_rebound_to_loopback_reads_nothing(
    edge: Gateway, host: str, path: str
) -> None:
    more = f"Origin: http://{host}\r\n"
    found, _, body = parsed(await edge.raw(named(host, path, more)))
    assert found == 421 and b'"MISDIRECTED_REQUEST"' in body
    handshake = upgrade("/api/ws/presence", await edge.login("user_1"), more.strip())
    handshake = handshake.replace(b"Host: 127.0.0.1", f"Host: {host}".encode())
    assert parsed(await edge.raw(handshake))[0] == 421
    # The target's authority is the host, whatever the header says (RFC 9112 §3.2.2).
    target = named("localhost", f"http://{host}/healthz")
    assert parsed(await edge.raw(target))[0] == 421


async def test_http_elsewhere_and_behind_a_trusted_proxy_any_name_is_served(
    valkey_url: str, edge: Gateway
) -> None:
    forwarded = named("chat.example", more="X-Forwarded-For: 203.0.113.7\r\n")
    assert parsed(await edge.raw(forwarded))[0] == 200
    secret = {"host": "0.0.0.0", "turnstile_secret_key": "0x4AAAA"}
    async with gateway(valkey_url, trusted_proxies="", **secret) as public:
        assert parsed(await public.raw(named("chat.example")))[0] == 200
    async with gateway(valkey_url, trusted_proxies="192.0.2.1") as alone:
        assert parsed(await alone.raw(forwarded))[0] == 421


# Other people's pages.

LOGIN = b'{"userId":"user_1","token":"any"}'


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_http_a_foreign_page_changes_nothing_and_counts_for_nobody(
    edge: Gateway, headers: dict[str, str]
) -> None:
    async with edge.client() as http:
        said = {"Content-Type": "text/plain"} | headers
        for _ in range(8):
            answer = await http.post("/api/auth/login", content=LOGIN, headers=said)
            refused(answer, 403, "ORIGIN_NOT_ALLOWED")
        answer = await http.post("/api/auth/login", content=LOGIN)
        token = data_of(answer)["sessionId"]
        bearer = {"Authorization": f"Bearer {token}"}
        for method, path in (
            ("POST", "/api/auth/logout"),
            ("POST", "/api/presence"),
            ("PATCH", "/api/data/users/user_1"),
            ("DELETE", "/api/data/orders/x"),
        ):
            answer = await http.request(method, path, headers=headers | bearer)
            refused(answer, 403, "ORIGIN_NOT_ALLOWED")
        data_of(await http.get("/api/auth/me", headers=headers | bearer))


TLS = "https://chat.example"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Proto": "HTTPS"},
        {"X-Forwarded-Proto": "https,http"},
        {"X-Forwarded-Proto": "https, http"},
        {"X-Forwarded-Proto": "wss"},
        {"Forwarded": "for=203.0.113.7;proto=https"},
        {"Forwarded": 'For="[2001:db8::1]:4711";Proto="HTTPS";by=x, for=10.0.0.1'},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "chat.example", "Host": "b"},
        {"Forwarded": "proto=https;host=chat.example", "Host": "backend:8000"},
    ],
)
async def test_http_what_a_trusted_proxy_says_makes_an_origin_ours(
    valkey_url: str, edge: Gateway, headers: dict[str, str]
) -> None:
    sent = {"Host": "chat.example", "Origin": TLS, "X-Forwarded-For": "203.0.113.7"}
    sent |= headers

    def asking(method: str, more: str = "") -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        path = "/api/auth/ticket" if method == "POST" else "/api/ws/presence"
        return f"{method} {path} HTTP/1.1\r\n{lines}{more}\r\n".encode()

    post = asking("POST", "Content-Length: 0\r\nConnection: close\r\n")
    assert parsed(await edge.raw(post))[0] == 401  # and not 403
    handshake = asking(
        "GET",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    )
    assert parsed(await edge.raw(handshake))[0] == 401
    secret = {"host": "0.0.0.0", "turnstile_secret_key": "0x4AAAA"}
    async with gateway(valkey_url, trusted_proxies="192.0.2.1", **secret) as public:
        for request in (post, handshake):
            assert parsed(await public.raw(request))[0] == 403


async def test_http_a_tls_proxy_that_is_not_trusted_is_explained_and_logged_once(
    valkey_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "_explained_at", -origin.LOGGED_EVERY_S)
    async with gateway(valkey_url, trusted_proxies="") as edge:
        async with edge.client(await edge.login("user_1")) as http:
            host = f"localhost:{edge.port}"
            page = {"Origin": f"https://{host}", "Host": host}
            for _ in range(3):
                answer = await http.post("/api/auth/ticket", headers=page)
                message = refused(answer, 403, "ORIGIN_NOT_ALLOWED")
                assert "CFM_TRUSTED_PROXIES" in message
    lines = [r for r in caplog.records if r.name == origin.logger.name]
    assert len(lines) == 1
    assert "CFM_TRUSTED_PROXIES" in lines[0].getMessage()


# Addresses.


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6,203.0.113.7 ,10.1.2.3"], "203.0.113.7"),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7"),  # the proxy adds a line
        (["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),  # proxies only
        ([""], "127.0.0.1"),
    ],
)
async def test_l1_the_address_is_the_rightmost_that_no_proxy_of_ours_has(
    valkey_url: str, lines: list[str], address: str
) -> None:
    settings = settings_for(valkey_url, trusted_proxies="127.0.0.1, 10.0.0.0/8")
    async with serving(Echo(), settings) as running:
        more = "".join(f"X-Forwarded-For: {line}\r\n" for line in lines)
        head = f"GET / HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n"
        await running.raw(head.encode())
        assert running.app.scopes[-1]["client"][0] == address


@pytest.mark.parametrize("proxies", ["*", "chat.example", "10.0.0.0/33", "10.0.0.1:80"])
def test_l1_a_proxy_is_an_address_and_never_everybody(proxies: str) -> None:
    with pytest.raises(SettingsError, match="CFM_TRUSTED_PROXIES"):
        settings_for("unix:///x", trusted_proxies=proxies)


async def test_l3_ipv6_sockets_are_counted_by_64(valkey_url: str) -> None:
    async with live(valkey_url, max_sockets_per_address="2") as node:
        room = new_room()
        url = f"ws://127.0.0.1:{node.gateways[0].port}/api/ws/room/{room}"
        bearer = f"Bearer {await node.token('user_1')}"

        async with contextlib.AsyncExitStack() as stack:

            async def enter(address: str) -> None:
                headers = {"X-Forwarded-For": address, "Authorization": bearer}
                connection = await dial(url, additional_headers=headers)
                stack.push_async_callback(connection.close)

            await enter("2001:db8::1")
            await enter("2001:db8::2:3")
            with pytest.raises(Refused) as caught:
                await enter("2001:db8::4")
            assert error_of(caught.value) == (503, "AT_CAPACITY")
            await enter("2001:db8:0:1::1")


# The door.


async def test_l3_an_address_has_so_many_connections(valkey_url: str) -> None:
    settings = settings_for(
        valkey_url, trusted_proxies="192.0.2.1", max_sockets_per_address="2"
    )
    async with serving(Echo(), settings) as running:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        idle = [await asyncio.open_connection("127.0.0.1", running.port)]
        # A WebSocket takes no place: the sockets' own limit is its.
        url = f"ws://127.0.0.1:{running.port}/"
        async with await dial(url):
            idle.append(await asyncio.open_connection("127.0.0.1", running.port))
            answer = await running.raw(request)
            headers = enveloped(answer, 503, "UNAVAILABLE")
            assert int(headers["retry-after"]) >= 1
            for _, writer in idle:
                writer.close()

        async def served() -> bool:
            return b" 200 " in await running.raw(request)

        await eventually(served)


async def test_l3_a_trusted_proxy_has_as_many_as_it_needs(valkey_url: str) -> None:
    settings = settings_for(valkey_url, max_sockets_per_address="2")
    async with serving(Echo(), settings) as running:
        lines = [
            await asyncio.open_connection("127.0.0.1", running.port) for _ in range(5)
        ]
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert b" 200 " in await running.raw(request)
        for _, writer in lines:
            writer.close()


def test_l3_the_door_counts_who_is_in() -> None:
    door = Door(per_address=2, in_all=10, proxies=["10.0.0.0/8"])
    first = [door.admit("192.0.2.1", n) for n in (1, 2)]
    assert first == ["192.0.2.1"] * 2
    assert door.admit("192.0.2.1", 3) is None
    assert door.admit("::ffff:192.0.2.1", 3) is None
    assert door.admit("192.0.2.2", 3) is not None
    door.leave("192.0.2.1")
    assert door.admit("192.0.2.1", 3) is not None
    for address in ("10.1.2.3", None):  # proxies, and whoever is on a Unix socket
        for _ in range(5):
            assert door.admit(address, 3) == ""
    door.leave("")
    # Not even they are let in when the files are running out.
    assert door.admit("10.1.2.3", 10) == ""
    assert door.admit("10.1.2.3", 11) is None


def test_l3_the_door_forgets_who_left() -> None:
    door = Door(per_address=1)
    for n in range(1000):
        who = door.admit(f"10.0.{n // 250}.{n % 250}", 1)
        assert who is not None
        door.leave(who)
    assert len(door) == 0 and not door._inside


@pytest.fixture
def file_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_l3_files_are_kept_back_from_the_crowd(file_limit: None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert connections_allowed() == 512 - RESERVED_FILES
    assert raise_file_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


async def test_l3_in_all_there_are_as_many_as_there_are_files_for(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.configuration.connections_allowed", lambda: 2)
    async with serving(Echo(), settings_for(valkey_url)) as running:
        url = f"ws://127.0.0.1:{running.port}/"
        async with await dial(url), await dial(url) as socket:
            answer = await running.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            enveloped(answer, 503, "UNAVAILABLE")
            await socket.send("served all the same")
            assert await socket.recv() == "served all the same"


# Logs.


async def test_g4_a_flood_of_nonsense_is_few_lines(
    edge: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "cfmessenger.server")
    seconds = itertools.chain([1000.0] * 60, itertools.repeat(1001.0))
    record = logging.getLogRecordFactory()

    def made(*args: object, **kwargs: object) -> logging.LogRecord:
        each = record(*args, **kwargs)  # type: ignore[arg-type]
        if each.name == "cfmessenger.server":
            each.created = next(seconds)
        return each

    logging.setLogRecordFactory(made)
    try:
        for _ in range(61):
            await edge.raw(b"hello\r\n\r\n")
    finally:
        logging.setLogRecordFactory(record)
    lines = [r.getMessage() for r in caplog.records if r.name == "cfmessenger.server"]
    assert len(lines) == 21
    assert lines[-1].endswith("(40 more before it)")
