"""Who may open a socket: wire.md §1's checks, each with its answer, in their order."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cfmessenger.link.messages import text_frame
from cfmessenger.storage.valkey import Valkey
from gateway.api.admission import Admission, authorise_upgrade
from gateway.app import create_app
from gateway.envelope import Refusal, refuse
from gateway.origin import check_origin
from gateway.server.websocket_protocol import socket_of
from tests.gateway.api.test_endpoints import ROOMS
from tests.gateway.edge import (
    Gateway,
    ListedLog,
    RecordingHub,
    serving,
    settings_for,
)

LISTED = "https://chat.example"


class Doorkeeper:
    """The product's routes, with sockets that tell how they were admitted."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state = app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        _, _, room = scope["path"].partition("/api/ws/room/")
        scope["path_params"] = {"id": room} if room else {}
        result = await authorise_upgrade(scope, self.state.services)
        if isinstance(result, Refusal):
            await refuse(send, result)
            return
        await send({"type": "websocket.accept", "subprotocol": result.subprotocol})
        text = json.dumps(
            {
                "user": result.session.user_id,
                "room": result.room_id,
                "since": result.since,
            }
        )
        socket_of(scope).write(text_frame(text.encode()))
        await send({"type": "websocket.close", "code": 1000})


@asynccontextmanager
async def doorkeeping(valkey_url: str, **more: str) -> AsyncIterator[Gateway]:
    settings = settings_for(valkey_url, **more)
    app = Doorkeeper(create_app(settings, RecordingHub, ListedLog()))
    async with serving(app, settings) as running:
        yield running


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with doorkeeping(valkey_url, allowed_origins=LISTED) as running:
        yield running


async def knock(edge: Gateway, path: str, **options: Any) -> dict[str, Any]:
    """The admission, or the refusal as {status, code}."""
    url = f"ws://127.0.0.1:{edge.port}{path}"
    try:
        async with connect(url, proxy=None, **options) as socket:
            answer: dict[str, Any] = json.loads(await socket.recv())
            return answer | {"subprotocol": socket.subprotocol}
    except InvalidStatus as refused:
        response = refused.response
        body = json.loads(response.body or b"")
        assert set(body) == {"success", "error", "meta"}
        return {"status": response.status_code, "code": body["error"]["code"]}


def bearer(token: str, **more: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"} | more}


REQUIRED = {"status": 401, "code": "AUTH_REQUIRED"}
EXPIRED = {"status": 401, "code": "AUTH_EXPIRED"}


async def test_the_four_ways_to_present_a_session(edge: Gateway) -> None:
    token = await edge.login("user_1")
    session = await edge.services.sessions.get(token)
    assert session is not None
    ticket, _ = await edge.services.tickets.draw(session)
    admitted = {"user": "user_1", "room": "general", "since": None}
    path = "/api/ws/room/general"
    assert await knock(edge, path, **bearer(token)) == admitted | {"subprotocol": None}
    for query in (f"ticket={ticket}", f"sessionId={token}"):
        answer = await knock(edge, f"{path}?{query}&userId=user_2&displayName=x")
        assert answer == admitted | {"subprotocol": None}
    answer = await knock(edge, path, subprotocols=["cfm.v1", f"bearer.{token}"])
    assert answer == admitted | {"subprotocol": "cfm.v1"}
    # A ticket is used up; the other ways are not.
    assert await knock(edge, f"{path}?ticket={ticket}") == EXPIRED


async def test_the_same_session_presented_twice_is_one(edge: Gateway) -> None:
    token = await edge.login("user_1")
    session = await edge.services.sessions.get(token)
    assert session is not None
    ticket, _ = await edge.services.tickets.draw(session)
    answer = await knock(
        edge,
        f"/api/ws/presence?sessionId={token}&ticket={ticket}",
        subprotocols=["cfm.v1", f"bearer.{token}"],
        **bearer(token),
    )
    assert answer["user"] == "user_1"
    assert answer["room"] is None


async def test_two_that_disagree_are_refused(edge: Gateway) -> None:
    mine, other = await edge.login("user_1"), await edge.login("user_1")
    session = await edge.services.sessions.get(other)
    assert session is not None
    path = "/api/ws/presence"

    async def ticket() -> str:
        return (await edge.services.tickets.draw(session))[0]

    for query, options in (
        (f"sessionId={other}", bearer(mine)),
        (f"sessionId={mine}&sessionId={other}", {}),
        ("sessionId=nonsense", bearer(mine)),
        (f"ticket={await ticket()}", bearer(mine)),
        ("ticket=nonsense", bearer(mine)),
        (f"ticket={await ticket()}&ticket={await ticket()}", {}),
        (f"sessionId={mine}", {"subprotocols": ["cfm.v1", f"bearer.{other}"]}),
    ):
        assert await knock(edge, f"{path}?{query}", **options) == EXPIRED, query


async def test_nothing_presented_or_nothing_valid(edge: Gateway) -> None:
    token = await edge.login("user_1")
    path = "/api/ws/presence"
    assert await knock(edge, path) == REQUIRED
    assert await knock(edge, f"{path}?sessionId=&ticket=") == REQUIRED
    assert await knock(edge, path, subprotocols=["cfm.v1"]) == REQUIRED
    basic = {"additional_headers": {"Authorization": f"Basic {token}"}}
    assert await knock(edge, path, **basic) == REQUIRED
    cookie = {"additional_headers": {"Cookie": f"sessionId={token}"}}
    assert await knock(edge, path, **cookie) == REQUIRED
    for wrong in ("x", "A" * 43, token[:-1], token + "x", "%ff%fe", "%00"):
        assert await knock(edge, f"{path}?sessionId={wrong}") == EXPIRED
    session = await edge.services.sessions.get(token)
    assert session is not None
    await edge.services.sessions.logout(session)
    assert await knock(edge, f"{path}?sessionId={token}") == EXPIRED


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("http://127.0.0.1:{port}", True),
        ("HTTP://127.0.0.1:{port}", True),
        (LISTED, True),
        ("https://127.0.0.1:{port}", False),
        ("http://127.0.0.1", False),
        ("http://localhost:{port}", False),
        ("http://127.0.0.1:{port}.evil.example", False),
        (f"{LISTED}.evil.example", False),
        ("https://evil.example/https://chat.example", False),
        ("null", False),
        ("", False),
    ],
)
async def test_origins(edge: Gateway, origin: str, fine: bool) -> None:
    token = await edge.login("user_1")
    given = {"Origin": origin.format(port=edge.port)}
    answer = await knock(edge, "/api/ws/presence", **bearer(token, **given))
    if fine:
        assert answer["user"] == "user_1"
    else:
        assert answer == {"status": 403, "code": "ORIGIN_NOT_ALLOWED"}


def test_our_own_origin_has_the_default_port_or_none() -> None:
    for scheme, host, origin in (
        ("ws", b"chat.example", b"http://chat.example"),
        ("ws", b"chat.example:80", b"http://chat.example"),
        ("wss", b"chat.example", b"https://chat.example:443"),
        ("wss", b"Chat.Example:443", b"https://chat.example"),
    ):
        headers = [(b"host", host), (b"origin", origin)]
        check_origin({"scheme": scheme, "headers": headers}, ())


async def test_since(edge: Gateway) -> None:
    token = await edge.login("user_1")
    path = "/api/ws/room/general"
    for since in ("0", "17", "999999999999999"):
        answer = await knock(edge, f"{path}?since={since}", **bearer(token))
        assert answer["since"] == int(since)
    for since in ("", "-1", "x", "1.5", "%D9%A3", "9" * 16, "1&since=1", "0x1"):
        answer = await knock(edge, f"{path}?since={since}", **bearer(token))
        assert answer == {"status": 400, "code": "VALIDATION_ERROR"}, since
    # Presence has no history to resume.
    assert (await knock(edge, "/api/ws/presence?since=x", **bearer(token)))["user"]


@pytest.mark.parametrize(("room", "status", "code"), ROOMS)
async def test_rooms_one_may_not_enter(
    edge: Gateway, room: str, status: int, code: str
) -> None:
    answer = await knock(
        edge, f"/api/ws/room/{room}", **bearer(await edge.login("user_1"))
    )
    assert answer == {"status": status, "code": code}


async def test_a_direct_room_has_one_id(edge: Gateway) -> None:
    token = await edge.login("user_2")
    for room in ("dm_user_1__user_2", "dm_user_2__user_1"):
        answer = await knock(edge, f"/api/ws/room/{room}", **bearer(token))
        assert answer["room"] == "dm_user_1__user_2"
    bot = edge.services.directory.bots[0].id
    answer = await knock(edge, f"/api/ws/room/dm_{bot}__user_2", **bearer(token))
    assert answer["room"] == f"dm_{min(bot, 'user_2')}__{max(bot, 'user_2')}"


async def test_open_rooms(valkey_url: str) -> None:
    async with doorkeeping(valkey_url, open_rooms="1") as edge:
        token = await edge.login("user_1")
        answer = await knock(edge, "/api/ws/room/anything-at_all", **bearer(token))
        assert answer["room"] == "anything-at_all"


async def test_the_order_of_the_checks(edge: Gateway) -> None:
    """Each request has every later fault as well; mending one shows the next."""
    token = await edge.login("user_1")
    evil = {"Origin": "https://evil.example"}

    async def code(room: str, since: str, *, origin: bool, session: bool) -> str:
        headers = evil if origin else {}
        options = bearer(token if session else "wrong", **headers)
        answer = await knock(edge, f"/api/ws/room/{room}?since={since}", **options)
        return str(answer["code"])

    async with edge.client() as http:
        answer = await http.get("/api/ws/room/UPPER?since=x", headers=evil)
        assert answer.json()["error"]["code"] == "UPGRADE_REQUIRED"
    assert await code("UPPER", "x", origin=True, session=False) == "ORIGIN_NOT_ALLOWED"
    assert await code("UPPER", "x", origin=False, session=False) == "AUTH_EXPIRED"
    assert await code("UPPER", "x", origin=False, session=True) == "INVALID_ROOM_ID"
    for room in ("system_x", "nowhere", "dm_user_2__user_3"):
        assert await code(room, "x", origin=False, session=True) == "VALIDATION_ERROR"
    last = [await code(room, "0", origin=False, session=True) for room in LATER]
    assert last == list(LATER.values())


LATER = {
    "system_dm_user_2__user_3": "ROOM_RESERVED",
    "dm_user_2__nobody": "ROOM_NOT_FOUND",
    "dm_user_2__user_3": "NOT_A_PARTICIPANT",
}


async def test_a_handshake_slides_the_session(edge: Gateway) -> None:
    token = await edge.login("user_1")
    scope = {
        "type": "websocket",
        "scheme": "ws",
        "headers": [],
        "query_string": f"sessionId={token}".encode(),
        "subprotocols": [],
        "path_params": {},
    }
    first = await authorise_upgrade(scope, edge.services)
    assert isinstance(first, Admission)
    later = first.session.expires_at - 600_000
    sessions = edge.services.sessions
    clock, sessions._clock = sessions._clock, lambda: later
    try:
        second = await authorise_upgrade(scope, edge.services)
    finally:
        sessions._clock = clock
    assert isinstance(second, Admission)
    assert second.session.expires_at == later + 1_200_000


async def test_valkey_away_is_a_503(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await edge.login("user_1")
    away = Valkey("unix:///nowhere/at/all")
    monkeypatch.setattr(edge.services.sessions, "_kv", away)
    answer = await knock(edge, "/api/ws/presence", **bearer(token))
    assert answer == {"status": 503, "code": "UNAVAILABLE"}
