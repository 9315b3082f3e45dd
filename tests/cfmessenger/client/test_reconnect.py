"""When the client tries again (wire.md §6)."""

import pytest

from cfmessenger.client import ConnectionEnded, Refused, SessionEnded
from cfmessenger.client.errors import ended_by_close
from cfmessenger.client.reconnect import reconnects, refusal_is_final
from cfmessenger.client.urls import is_loopback, websocket_url


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 4000, 4400, 4499])
def test_these_close_codes_reconnect(code: int) -> None:
    assert reconnects(code)


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (4500, SessionEnded, "AUTH_EXPIRED"),
        (4501, SessionEnded, "LOGGED_OUT"),
        (4503, Refused, "FORBIDDEN"),
        (4508, Refused, "ABUSE"),
        (4999, ConnectionEnded, "CLOSE_4999"),
        (1002, ConnectionEnded, "CLOSE_1002"),
        (1003, ConnectionEnded, "CLOSE_1003"),
        (1007, ConnectionEnded, "CLOSE_1007"),
        (1009, ConnectionEnded, "CLOSE_1009"),
    ],
)
def test_these_close_codes_are_final(code: int, kind: type, name: str) -> None:
    assert not reconnects(code)
    error = ended_by_close(code, "why")
    assert type(error) is kind
    assert (error.code, error.close_code) == (name, code)
    assert "why" in str(error)


def test_refused_upgrades_are_final_unless_they_may_pass() -> None:
    assert all(refusal_is_final(status) for status in (400, 403, 404, 426))
    assert not any(refusal_is_final(status) for status in (401, 429, 500, 502, 503))


def test_socket_addresses() -> None:
    assert (
        websocket_url("http://127.0.0.1:8000", "/api/ws/presence", "t&1", None)
        == "ws://127.0.0.1:8000/api/ws/presence?ticket=t%261"
    )
    assert (
        websocket_url("https://chat.example/x/", "/api/ws/room/general", "t", 0)
        == "wss://chat.example/x/api/ws/room/general?ticket=t&since=0"
    )
    assert all(
        is_loopback(url)
        for url in ("http://localhost", "ws://127.0.0.1:1", "http://[::1]")
    )
    assert not is_loopback("https://chat.example")
