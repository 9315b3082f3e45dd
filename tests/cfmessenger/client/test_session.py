"""The HTTP half of the client, against real answers over TCP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from cfmessenger.client import ApiError, Client, SessionEnded, Shown, Unreachable
from cfmessenger.client.envelope import api_error
from tests import patience

from .scripted_server import HttpRequest, ScriptedServer
from .test_state import message


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


class SetClock:
    """`time` as the session sees it: somebody has set the wall clock."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.wrong_s = 0.0

    def time(self) -> float:
        return time.time() + self.wrong_s


@pytest.mark.parametrize("wrong_s", [1500.0, -1500.0, 3e7])
@pytest.mark.parametrize("when", ["always", "after the login"])
async def test_a_wrong_local_clock_does_not_make_a_session_look_ended(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, wrong_s: float, when: str
) -> None:
    clock = SetClock()
    monkeypatch.setattr("cfmessenger.client.session.time", clock)
    clock.wrong_s = wrong_s if when == "always" else 0.0
    async with Client(server.url) as client:
        session = await client.login("user_1")
        clock.wrong_s = wrong_s
        # Twenty minutes, less the margin, less what a busy machine takes.
        assert 900 < session.refresh_in_s() <= 1080


@pytest.mark.parametrize("ttl_ms", [-60_000, 0, 900])
async def test_an_absurd_end_is_not_run_after(
    server: ScriptedServer, client: Client, ttl_ms: int
) -> None:
    server.session_ttl_ms = ttl_ms
    session = await client.login("user_1")
    assert session.refresh_in_s() >= 30
    await session.refresh()
    assert session.refresh_in_s() >= 30


async def test_many_calls_that_cross_a_slow_refresh_all_succeed(
    server: ScriptedServer, client: Client
) -> None:
    """The old id is dead as soon as the server has made the new one."""
    session = await client.login("user_1")
    refresh = server.routes["POST", "/api/auth/refresh"]
    crossing: list[asyncio.Task[str]] = []

    def cross(request: HttpRequest) -> tuple[int, object]:
        answer = refresh(request)
        crossing.extend(asyncio.create_task(session.ticket()) for _ in range(3))
        return answer

    server.routes["POST", "/api/auth/refresh"] = cross
    await session.refresh()
    tickets = await asyncio.gather(*crossing)
    assert len(set(tickets)) == 3


async def test_a_status_is_chosen_before_any_socket_and_a_name_is_as_others_see_it(
    server: ScriptedServer, client: Client
) -> None:
    def shown(request: HttpRequest) -> tuple[int, object]:
        assert request.session_id == server.session_id
        return 200, {"displayName": "as it was", **request.json}

    server.routes["POST", "/api/presence"] = shown
    session = await client.login("user_1")
    assert await session.appear("offline") == Shown("offline", "as it was")
    assert server.requests[-1].json == {"status": "offline"}
    assert await session.appear("busy", "Maya!") == Shown("busy", "Maya!")
