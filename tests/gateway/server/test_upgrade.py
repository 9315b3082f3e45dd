"""Plain upgrades are recognised, and everything else is h11's business."""

import random

import h11
import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from gateway.server.http_protocol import _StrictConnection
from gateway.server.upgrade import MOST_BYTES, key_of, plain_upgrade, request_of

LINES = (
    b"GET /api/ws/room/r1?since=4 HTTP/1.1",
    b"Host: chat.example:8080",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def request(*lines: bytes, end: bytes = b"\r\n") -> bytes:
    return end.join((*lines, b"", b""))


def without(name: bytes) -> tuple[bytes, ...]:
    return tuple(line for line in LINES if not line.lower().startswith(name))


def test_a_browsers_request_is_taken_whole() -> None:
    headers = plain_upgrade(request(*LINES, b"Cookie:  a=1; b=2 \t"))
    assert headers is not None
    assert headers[0] == (b"host", b"chat.example:8080")
    assert headers[-1] == (b"cookie", b"a=1; b=2")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(*LINES)[:-1], id="half a head"),
        pytest.param(request(*LINES) + b"\x81\x80", id="a frame behind it"),
        pytest.param(b"\r\n" + request(*LINES), id="an empty line before it"),
        pytest.param(request(*LINES, end=b"\n"), id="bare LF"),
        pytest.param(request(*LINES, b"X: a\r\n b"), id="folded"),
        pytest.param(request(*LINES, b"X: a\rb"), id="bare CR"),
        pytest.param(request(*LINES, b"X : a"), id="space before the colon"),
        pytest.param(request(*LINES, b"X: \x00"), id="NUL"),
        pytest.param(request(*LINES, b"X: \xff"), id="not ASCII"),
        pytest.param(request(*LINES, b"no colon"), id="no colon"),
        pytest.param(request(*LINES, *[b"X: a"] * 100), id="too many"),
        pytest.param(request(*LINES, b"X: " + b"a" * MOST_BYTES), id="too long"),
        pytest.param(request(*LINES, b"Host: other"), id="two hosts"),
        pytest.param(request(*without(b"host")), id="no host"),
        pytest.param(request(*without(b"host"), b"Host: a/b"), id="a wrong host"),
        pytest.param(request(*LINES, b"Upgrade: h2c"), id="two upgrades"),
        pytest.param(request(*without(b"upgrade")), id="no upgrade"),
        pytest.param(request(*without(b"upgrade"), b"Upgrade: h2c"), id="another"),
        pytest.param(request(*without(b"connection")), id="no connection"),
        pytest.param(
            request(*without(b"connection"), b"Connection: close"), id="close"
        ),
        pytest.param(request(*LINES, b"Content-Length: 0"), id="a body"),
        pytest.param(request(*LINES, b"Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(request(*LINES, b"Expect: 100-continue"), id="expect"),
        pytest.param(request(b"POST / HTTP/1.1", *LINES[1:]), id="POST"),
        pytest.param(request(b"GET / HTTP/1.0", *LINES[1:]), id="HTTP/1.0"),
        pytest.param(request(b"GET http://a/ HTTP/1.1", *LINES[1:]), id="absolute"),
        pytest.param(request(b"GET /a b HTTP/1.1", *LINES[1:]), id="a space"),
        pytest.param(
            request(b"GET /%b HTTP/1.1" % (b"a" * 4096), *LINES[1:]), id="long target"
        ),
    ],
)
def test_what_is_not_plain_is_left_to_h11(data: bytes) -> None:
    assert plain_upgrade(data) is None


def by_h11(data: bytes) -> list[tuple[bytes, bytes]]:
    """What the strict HTTP side makes of it. Raises h11.RemoteProtocolError."""
    connection = _StrictConnection(h11.SERVER, 32 * 1024)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == b"GET"
    return [(bytes(name), bytes(value)) for name, value in event.headers]


def test_what_is_taken_h11_reads_in_the_same_way() -> None:
    rng, taken = random.Random(7), 0
    odd = b' \t:,;/\r\n\x00\x7f\x80aZ09-_"()[]'
    for _ in range(20_000):
        lines = [*LINES, b"Accept: */*", b"Forwarded: for=1.2.3.4"]
        data = bytearray(request(*rng.sample(lines, len(lines))))
        if rng.random() < 0.9:
            data = bytearray(request(*lines))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            at = rng.randrange(len(data))
            new = bytes([rng.choice(odd)]) * rng.choice((0, 1, 1, 2))
            data[at : at + rng.choice((0, 1))] = new
        headers = plain_upgrade(bytes(data))
        if headers is None:
            continue
        taken += 1
        kept = [each for each in headers if each[0] != b"forwarded"]
        assert by_h11(bytes(data)) == kept  # whose sender is not trusted
    assert taken > 4_000


def test_a_request_is_made_anew_with_other_headers() -> None:
    made = request_of(request(*LINES), [(b"host", b"a"), (b"x", b"y")])
    assert made == request(LINES[0], b"host: a", b"x: y")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(without(b"sec-websocket-key"), id="no key"),
        pytest.param((*without(b"sec-websocket-key"), LINES[5][:-4]), id="short key"),
        pytest.param((*LINES, LINES[5]), id="two keys"),
        pytest.param(without(b"sec-websocket-version"), id="no version"),
        pytest.param((*LINES, LINES[4]), id="two versions"),
        pytest.param(
            (*without(b"sec-websocket-version"), b"Sec-WebSocket-Version: 8"),
            id="another version",
        ),
        pytest.param((*LINES, b"Origin: a", b"Origin: b"), id="two origins"),
        pytest.param((*LINES, b"Sec-WebSocket-Protocol: a b"), id="no list"),
        pytest.param((*LINES, b"Sec-WebSocket-Protocol: "), id="an empty list"),
        pytest.param(
            (*without(b"connection"), b"Connection: upgrade, ("), id="no token"
        ),
    ],
)
def test_what_is_no_plain_handshake_is_left_to_websockets(
    lines: tuple[bytes, ...],
) -> None:
    headers = plain_upgrade(request(*lines))
    assert headers is not None
    assert key_of(headers) is None


def by_websockets(data: bytes) -> tuple[int, str | None]:
    """What websockets makes of it."""
    library = ServerProtocol()
    library.receive_data(data)
    event = next(iter(library.events_received()), None)
    assert isinstance(event, Request)
    response = library.accept(event)
    return response.status_code, response.headers.get("Sec-WebSocket-Accept")


def test_what_is_accepted_by_its_headers_websockets_accepts_too() -> None:
    rng, accepted, left = random.Random(11), 0, 0
    more = (b"Sec-WebSocket-Protocol: cfm.v1, bearer.x", b"Origin: http://a")
    for _ in range(20_000):
        lines = [*LINES, *rng.sample(more, rng.randint(0, 2))]
        data = bytearray(request(*lines))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            at = rng.randrange(len(LINES[0]), len(data))
            new = bytes([rng.choice(b' \t:,;/=+aBwQ1309-_"()[]')]) * rng.randint(0, 2)
            data[at : at + rng.choice((0, 1))] = new
        headers = plain_upgrade(bytes(data))
        key = None if headers is None else key_of(headers)
        left += headers is not None and key is None
        if key is not None:
            accepted += 1
            assert by_websockets(bytes(data)) == (101, accept_key(key.decode()))
    assert accepted > 4_000
    assert left > 1_000
