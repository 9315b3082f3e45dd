"""The HTTP half of the client, against real answers over TCP."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cfmessenger.client import ApiError, Client, SessionEnded, Unreachable
from cfmessenger.client.envelope import api_error
from tests import patience

from .scripted_server import HttpRequest, ScriptedServer, now_ms
from .test_client_state import message


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with Client(server.url + "/") as client:
        yield client


async def test_login_presents_user_and_token(
    server: ScriptedServer, client: Client
) -> None:
    session = await client.login("user_1", "a token")
    assert server.requests[0].json == {"userId": "user_1", "token": "a token"}
    assert session.user.display_name == "User_1"
    assert session.session_id == "session-0"
    assert "session-0" not in repr(session)


async def test_errors_keep_the_servers_code(client: Client) -> None:
    with pytest.raises(ApiError) as refusal:
        await client.login("nobody")
    assert (refusal.value.status, refusal.value.code) == (404, "USER_NOT_FOUND")
    assert not refusal.value.retryable


def test_any_answer_becomes_a_typed_error() -> None:
    body = json.dumps({"success": False, "error": {"code": "RATE_LIMITED"}}).encode()
    error = api_error(429, body, "7")
    assert (error.code, error.retry_after_s, error.retryable) == (
        "RATE_LIMITED",
        7.0,
        True,
    )
    assert api_error(502, b"<html>", "soon").code == "HTTP_502"
    assert api_error(500, b"[" * 5000, None).code == "HTTP_500"
    assert api_error(500, b"null", None).code == "HTTP_500"


async def test_nobody_there_is_unreachable(server: ScriptedServer) -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(Unreachable):
            await client.login("user_1")
    server.routes["GET", "/api/users"] = lambda request: (200, {"not": "a list"})
    async with Client(server.url) as client:
        with pytest.raises(Unreachable, match="protocol"):
            await client.users()


async def test_pages(server: ScriptedServer, client: Client) -> None:
    def page(request: HttpRequest) -> tuple[int, object]:
        assert request.query == {"limit": "2", "before": "9"}
        return 200, {"messages": [message(7), message(8)], "nextBefore": 7}

    server.routes["GET", "/api/rooms/general/messages"] = page
    session = await client.login("user_1")
    found = await session.messages("general", before=9, limit=2)
    assert ([m.seq for m in found.messages], found.next_before) == ([7, 8], 7)


async def test_refresh_rotates_once_however_many_ask(
    server: ScriptedServer, client: Client
) -> None:
    session = await client.login("user_1")
    await asyncio.gather(*(session.refresh() for _ in range(5)))
    assert server.calls("/api/auth/refresh") == 1
    assert session.session_id == server.session_id == "session-1"


async def test_a_call_that_crossed_a_refresh_is_made_again(
    server: ScriptedServer, client: Client
) -> None:
    session = await client.login("user_1")
    tickets, _ = await asyncio.gather(
        asyncio.gather(*(session.ticket() for _ in range(3))), session.refresh()
    )
    assert all(ticket.startswith("ticket-") for ticket in tickets)


async def test_a_session_that_is_over_says_so(
    server: ScriptedServer, client: Client
) -> None:
    session = await client.login("user_1")
    server.session_id = "somebody else's"
    with pytest.raises(SessionEnded) as ended:
        await session.ticket()
    assert ended.value.code == "AUTH_EXPIRED"
    with pytest.raises(SessionEnded):
        await session.refresh()


async def test_a_session_is_kept_alive_and_logged_out(
    server: ScriptedServer, client: Client
) -> None:
    server.session_ttl_ms = 1200
    refreshed = asyncio.Event()
    refresh = server.routes["POST", "/api/auth/refresh"]

    def notice(request: HttpRequest) -> tuple[int, object]:
        refreshed.set()
        return refresh(request)

    server.routes["POST", "/api/auth/refresh"] = notice
    async with await client.login("user_1") as session:
        await patience.wait_for(refreshed.wait(), 5)
        await session.ticket()  # with the new id
    assert server.calls("/api/auth/logout") == 1
    assert server.requests[-1].session_id == session.session_id


async def test_a_wrong_local_clock_does_not_make_a_session_look_ended(
    server: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = now_ms()
    monkeypatch.setattr(
        "cfmessenger.client.session.time.time", lambda: real / 1e3 + 9e5
    )
    async with await client.login("user_1"):
        await asyncio.sleep(1.2)
    assert server.calls("/api/auth/refresh") == 0
