"""Who may do what: every route for nobody, for A, for B, for a bot and for a session
that has ended (A-1, A-2, A-4), and what the outside may see of a row or an error."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.routing import Route, WebSocketRoute

from gateway.app import routes
from tests.gateway.edge import data_of, refused
from tests.gateway.node import Node, Refused, Socket, dial, error_of, live

A, PEER, B = "user_1", "user_2", "user_3"
DIRECT = f"dm_{A}__{PEER}"

PUBLIC = {
    "/api/config",
    "/api/auth/login",
    "/api/users",
    "/api/auth/accounts",
    "/api/rooms",
    "/api/openapi.json",
    "/api/asyncapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/docs/page.css",
    "/docs/page.mjs",
    "/",
    "/web/{version}/{path:path}",
}
"""All that a stranger may ask. Whatever else there is, or comes, asks who one is."""

REQUIRED, EXPIRED = (401, "AUTH_REQUIRED"), (401, "AUTH_EXPIRED")
NOT_IN = (403, "NOT_A_PARTICIPANT")
OK = (200, "")

# What is asked -> the answers to A, who is in the direct room, and to B, who is not.
HTTP: dict[tuple[str, str], tuple[tuple[int, str], tuple[int, str]]] = {
    ("GET", "/api/auth/me"): (OK, OK),
    ("POST", "/api/auth/ticket"): (OK, OK),
    ("POST", "/api/presence"): (OK, OK),
    ("GET", f"/api/rooms/{DIRECT}/messages"): (OK, NOT_IN),
    ("GET", f"/api/rooms/dm_{PEER}__{A}/messages"): (OK, NOT_IN),
    ("GET", f"/api/rooms/{DIRECT}/messages?before=2&limit=1"): (OK, NOT_IN),
    ("GET", "/api/rooms/general/messages"): (OK, OK),
}
SOCKETS: dict[str, tuple[tuple[int, str], tuple[int, str]]] = {
    f"/api/ws/room/{DIRECT}": (OK, NOT_IN),
    f"/api/ws/room/dm_{PEER}__{A}": (OK, NOT_IN),
    f"/api/ws/room/{DIRECT}?since=0": (OK, NOT_IN),
    "/api/ws/room/general": (OK, OK),
    "/api/ws/presence": (OK, OK),
}


@pytest.fixture(scope="module")
async def place(valkey_url: str) -> AsyncIterator[Node]:
    """A and a peer have said something to each other that is nobody else's."""
    async with live(valkey_url, chat_rate="0") as node:
        async with node.visit() as opened:
            tab = await opened.enter(A, DIRECT)
            await tab.say("between us", id="secret-1")
        yield node


@pytest.fixture
async def node(place: Node) -> AsyncIterator[Node]:
    async with place.visit() as own:
        yield own


@pytest.fixture
async def ended(node: Node) -> str:
    """A's, who was a participant while it lasted."""
    services = node.gateways[0].services
    token, session = await services.sessions.create(A, "uk")
    await services.sessions.logout(session)
    return token


async def ask(node: Node, token: str | None, method: str, path: str) -> httpx2.Response:
    body = {"status": "away"} if path == "/api/presence" else None
    async with node.gateways[0].client(token) as http:
        return await http.request(method, path, json=body)


def judged(answer: httpx2.Response) -> tuple[int, str]:
    body = answer.json()
    return answer.status_code, "" if body["success"] else body["error"]["code"]


async def knock(node: Node, token: str | None, path: str) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"ws://127.0.0.1:{node.gateways[0].port}{path}"
    try:
        async with await dial(url, additional_headers=headers):
            return OK
    except Refused as refusal:
        return error_of(refusal)


@pytest.mark.parametrize(("method", "path"), HTTP)
async def test_a1_http(node: Node, ended: str, method: str, path: str) -> None:
    to_a, to_b = HTTP[method, path]
    assert judged(await ask(node, await node.token(A), method, path)) == to_a
    assert judged(await ask(node, await node.token(B), method, path)) == to_b
    assert judged(await ask(node, None, method, path)) == REQUIRED
    assert judged(await ask(node, ended, method, path)) == EXPIRED
    if to_b == NOT_IN:
        answer = await ask(node, await node.token(B), method, path)
        assert "between us" not in answer.text and "secret" not in answer.text


@pytest.mark.parametrize("path", SOCKETS)
async def test_a1_sockets(node: Node, ended: str, path: str) -> None:
    to_a, to_b = SOCKETS[path]
    assert await knock(node, await node.token(A), path) == to_a
    assert await knock(node, await node.token(B), path) == to_b
    assert await knock(node, None, path) == REQUIRED
    assert await knock(node, ended, path) == EXPIRED


def _concrete(path: str) -> str:
    return (
        path.replace("{id:room}", "general")
        .replace("{id}", "1")
        .replace("{collection}", "orders")
    )


PRIVATE = sorted(
    (method, _concrete(route.path))
    for route in routes()
    if isinstance(route, Route)
    and route.path not in PUBLIC
    and not route.path.startswith("/api/ws/")  # asked plainly they are a 426
    for method in (route.methods or set()) - {"HEAD"}
)


@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_a1_whatever_is_not_public_asks_who_one_is(
    node: Node, ended: str, method: str, path: str
) -> None:
    for token, answer in ((None, REQUIRED), (ended, EXPIRED), ("x" * 43, EXPIRED)):
        async with node.gateways[0].client(token) as http:
            assert judged(await http.request(method, path, json={})) == answer


@pytest.mark.parametrize(
    "path", sorted(_concrete(r.path) for r in routes() if isinstance(r, WebSocketRoute))
)
async def test_a1_whatever_is_a_socket_asks_who_one_is(
    node: Node, ended: str, path: str
) -> None:
    assert await knock(node, None, path) == REQUIRED
    assert await knock(node, ended, path) == EXPIRED


async def test_a1_a_stranger_sees_no_direct_room(node: Node) -> None:
    for token in (None, await node.token(B)):
        answer = await ask(node, token, "GET", "/api/rooms")
        assert DIRECT not in answer.text
    assert DIRECT in (await ask(node, await node.token(A), "GET", "/api/rooms")).text


async def test_a1_nobody_is_a_bot(node: Node) -> None:
    bots = node.gateways[0].services.directory.bots
    assert bots
    async with node.gateways[0].client() as http:
        for bot in bots[:2]:
            body = {"userId": bot.id, "token": "any"}
            answer = await http.post("/api/auth/login", json=body)
            refused(answer, 404, "USER_NOT_FOUND")
        unknown = {"userId": "nobody", "token": "any"}
        answer = await http.post("/api/auth/login", json=unknown)
        assert "nobody" not in refused(answer, 404, "USER_NOT_FOUND")


async def test_a1_a_session_of_a_bot_would_be_nobodys(node: Node) -> None:
    """If one were in Valkey all the same: it reads nothing that is not its own."""
    bot = node.gateways[0].services.directory.bots[0]
    token = await node.gateways[0].login(bot.id)
    assert judged(await ask(node, token, "GET", "/api/auth/me")) == EXPIRED
    path = f"/api/rooms/{DIRECT}/messages"
    assert judged(await ask(node, token, "GET", path)) == NOT_IN
    assert await knock(node, token, f"/api/ws/room/{DIRECT}") == NOT_IN


async def test_a1_a_receipt_from_outside_the_room_counts_for_nothing(
    node: Node,
) -> None:
    author = await node.enter(A, DIRECT)
    stranger = await node.enter(B, "general")
    for status in ("delivered", "read"):
        await stranger.send("ack", ackId="secret-1", status=status)
    await stranger.send("ping", t=1)
    await stranger.wait("pong")
    assert not author.of("delivery_status")
    reader = await node.enter(PEER, DIRECT)
    await reader.send("ack", ackId="secret-1", status="read")
    receipt = await author.wait("delivery_status")
    assert (receipt["senderId"], receipt["status"]) == (PEER, "read")
    # Nor one's own, nor a lower one.
    await author.send("ack", ackId="secret-1", status="read")
    await reader.send("ack", ackId="secret-1", status="delivered")
    await reader.say("later")
    await author.wait("chat", content="later")
    assert author.of("delivery_status") == [receipt]


async def test_a2_what_two_people_say_reaches_nobody_else(node: Node) -> None:
    watchers = {who: await node.watch(who) for who in (A, PEER, B)}
    elsewhere = await node.enter(B, "general")
    talker, other = await node.enter(A, DIRECT), await node.enter(PEER, DIRECT)
    for n in range(20):
        await (talker, other)[n % 2].say(f"private {n}")
        await talker.send("typing", isTyping=bool(n % 2))
        await other.send("ack", ackId="secret-1", status="delivered")
    for who in (A, PEER):
        await watchers[who].wait(
            "message_notification", lambda f: f["message"]["content"] == "private 19"
        )
    # The stranger's streams have all that came before this.
    async with node.gateways[0].client(await node.token(A)) as http:
        data_of(await http.post("/api/presence", json={"status": "busy"}))
    await watchers[B].has("presence_update", userId=A, status="busy")
    await elsewhere.say("public")
    for frame in [*watchers[B].frames, *elsewhere.frames]:
        text = str(frame)
        assert "private" not in text and DIRECT not in text, frame
    assert not watchers[B].of("message_notification", "typing", "delivery_status")


async def test_a4_a_session_that_ended_says_nothing_more(node: Node) -> None:
    """Not only at connect: what comes after a logout is not taken any more."""
    services = node.gateways[0].services
    token, session = await services.sessions.create(A, "uk")
    doomed = await node.enter(A, DIRECT, token=token)
    witness = await node.enter(PEER, DIRECT)
    await doomed.say("before")
    await services.sessions.logout(session)
    code = asyncio.create_task(doomed.closed())
    sent = 0
    try:
        while not code.done():
            await doomed.send("chat", content=f"after {sent}")
            sent += 1
            await asyncio.sleep(0.005)
    except Exception as closed:
        assert "4501" in str(closed)
    assert await code == 4501
    said = (await witness.say("the end"))["seq"]
    assert await node.token(A) != token
    again = await node.enter(A, DIRECT)
    assert (await again.say("signed in anew"))["seq"] == said + 1


async def test_s2_a_session_of_ones_own_choice_is_never_adopted(node: Node) -> None:
    chosen = "A" * 43
    async with node.gateways[0].client(chosen) as http:
        body = {"userId": A, "token": "any", "sessionId": chosen}
        answer = data_of(await http.post("/api/auth/login", json=body))
        assert answer["sessionId"] != chosen
        refused(await http.get("/api/auth/me"), 401, "AUTH_EXPIRED")
        http.headers["Authorization"] = f"Bearer {answer['sessionId']}"
        fresh = data_of(await http.post("/api/auth/refresh"))["sessionId"]
        assert fresh not in (chosen, answer["sessionId"])
        refused(await http.get("/api/auth/me"), 401, "AUTH_EXPIRED")


@pytest.mark.parametrize(
    "where",
    ["body", "query", "cookie", "x-session-id", "basic", "path", "subprotocol"],
)
async def test_s7_a_token_in_another_place_is_not_looked_at(
    node: Node, where: str
) -> None:
    token = await node.token(A)
    headers: dict[str, str] = {}
    body: dict[str, Any] = {"status": "busy"}
    path = "/api/presence"
    match where:
        case "body":
            body |= {"sessionId": token, "token": token}
        case "query":
            path += f"?sessionId={token}"
        case "cookie":
            headers["Cookie"] = f"sessionId={token}; __Host-session={token}"
        case "x-session-id":
            headers["X-Session-Id"] = token
        case "basic":
            headers["Authorization"] = f"Basic {token}"
        case "path":
            path = f"/api/presence;sessionId={token}"
        case "subprotocol":
            headers["Sec-WebSocket-Protocol"] = f"cfm.v1, bearer.{token}"
    async with node.gateways[0].client() as http:
        answer = await http.post(path, json=body, headers=headers)
    expected = (404, "NOT_FOUND") if where == "path" else REQUIRED
    assert judged(answer) == expected
    assert token not in answer.text


async def test_s8_a_foreign_page_opens_no_socket_whatever_it_holds(node: Node) -> None:
    token = await node.token(A)
    services = node.gateways[0].services
    session = await services.sessions.get(token)
    assert session is not None
    ticket, _ = await services.tickets.draw(session)
    port = node.gateways[0].port
    own = f"http://127.0.0.1:{port}"
    for origin in ("https://evil.example", "null", f"{own}.evil.example", f"{own}0"):
        for query in (f"sessionId={token}", f"ticket={ticket}"):
            url = f"ws://127.0.0.1:{port}/api/ws/presence?{query}"
            with pytest.raises(Refused) as caught:
                await dial(url, additional_headers={"Origin": origin})
            assert error_of(caught.value) == (403, "ORIGIN_NOT_ALLOWED")
    # The origin is looked at first, so the ticket was not used up.
    url = f"ws://127.0.0.1:{port}/api/ws/presence?ticket={ticket}"
    tab = Socket(await dial(url, additional_headers={"Origin": own}), A, token)
    await tab.wait("presence_full_sync")
    await tab.close()
