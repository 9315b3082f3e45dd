"""wire.md §1 row by row, but for sockets: every answer and every error code."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from cfmessenger.accounts.session_names import token_hash
from cfmessenger.accounts.sessions import REVOKED_CHANNEL
from cfmessenger.chat import mirror
from cfmessenger.chat.history import KeptRow
from cfmessenger.chat.ratelimit import UserRates
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from cfmessenger.wire.events import ChatMessage
from cfmessenger.wire.protocol import encode
from tests import patience
from tests.gateway.edge import Gateway, data_of, gateway, refused

PERSON = {"userId": "user_1", "token": "any"}


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with gateway(valkey_url, bots_active="4") as running:
        yield running


@pytest.fixture
def fresh(edge: Gateway, empty_valkey: str) -> Gateway:
    edge.log.rooms.clear()
    edge.log.mirrors.clear()
    edge.hub.closed.clear()
    return edge


# GET /api/config


async def test_config_has_an_empty_site_key_when_none_is_set(edge: Gateway) -> None:
    async with edge.client() as http:
        assert data_of(await http.get("/api/config")) == {"TURNSTILE_SITE_KEY": ""}


async def test_config_has_the_site_key(valkey_url: str) -> None:
    async with gateway(valkey_url, turnstile_site_key="1x00BB") as edge:
        async with edge.client() as http:
            answer = data_of(await http.get("/api/config"))
    assert answer == {"TURNSTILE_SITE_KEY": "1x00BB"}


# POST /api/auth/login


async def test_login_answers_session_user_end_and_hint(fresh: Gateway) -> None:
    before = int(time.time() * 1000)
    async with fresh.client() as http:
        data = data_of(await http.post("/api/auth/login", json=PERSON))
    assert set(data) == {"sessionId", "user", "expiresAt", "locationHint"}
    assert len(data["sessionId"]) == 43
    assert data["user"]["id"] == "user_1"
    assert data["user"]["status"] == "offline"
    assert data["user"]["isAiBot"] is False
    assert None not in data["user"].values()
    assert 1_199_000 < data["expiresAt"] - before < 1_201_000
    assert data["locationHint"] == "uk"


async def test_an_answer_is_dated_by_the_clock_that_its_session_ends_by(
    valkey_url: str,
) -> None:
    """A client with a wrong clock compares `expiresAt` with `meta.timestamp`."""
    async with gateway(valkey_url) as edge:
        clock = edge.services.clock
        clock.hear(clock.now() + 3_600_000, 0)  # this machine is an hour behind
        async with edge.client() as http:
            answer = (await http.post("/api/auth/login", json=PERSON)).json()
    left = answer["data"]["expiresAt"] - answer["meta"]["timestamp"]
    assert 1_190_000 < left <= 1_200_000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain;charset=UTF-8", b'{"userId":"user_1","token":"t"}'),
        (None, b'{"userId":"user_1","token":"t"}'),
        ("APPLICATION/JSON ; charset=utf-8", b'{"userId":"user_1","token":"t"}'),
        ("text/plain", b'{"userId":"user_1","cf-turnstile-response":"t"}'),
        ("text/plain", b'{"userId":"user_1","token":"","cf-turnstile-response":"t"}'),
        ("text/plain", b'{"userId":"x","userId":"user_1","token":"t","more":[1]}'),
    ],
)
async def test_login_takes_what_clients_send(
    edge: Gateway, content_type: str | None, body: bytes
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    async with edge.client() as http:
        answer = await http.post("/api/auth/login", content=body, headers=headers)
    assert data_of(answer)["user"]["id"] == "user_1"


@pytest.mark.parametrize("content_type", ["text/html", "multipart/form-data", "x"])
async def test_login_refuses_other_media_types(
    edge: Gateway, content_type: str
) -> None:
    async with edge.client() as http:
        answer = await http.post(
            "/api/auth/login", content=b"{}", headers={"content-type": content_type}
        )
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
        squeezed = {"content-encoding": "gzip", "content-type": "application/json"}
        answer = await http.post("/api/auth/login", content=b"{}", headers=squeezed)
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"userId":"user_1"} x',
        b"\xef\xbb\xbf{}",
        b"{'userId':'user_1'}",
        b'{"userId":"user_1",}',
        b"{} // c",
        b'{"token":NaN}',
        b'{"n":01}',
        b'{"userId":"\xff"}',
        b'{"userId":"\\ud800"}',
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_login_refuses_what_is_not_json(edge: Gateway, body: bytes) -> None:
    async with edge.client() as http:
        answer = await http.post("/api/auth/login", content=body)
    refused(answer, 400, "INVALID_JSON", "The body is not valid JSON.")


NAME = "userId: must be text of 1-64 characters"
TOKEN = "token: must be text of at most 2048 characters"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "The body must be a JSON object."),
        (b"null", "The body must be a JSON object."),
        (b'"user_1"', "The body must be a JSON object."),
        (b"{}", NAME),
        (b'{"token":"t"}', NAME),
        (b'{"userId":null,"token":"t"}', NAME),
        (b'{"userId":1,"token":"t"}', NAME),
        (b'{"userId":"","token":"t"}', NAME),
        (b'{"userId":["user_1"],"token":"t"}', NAME),
        (b'{"userId":"' + b"u" * 65 + b'","token":"t"}', NAME),
        (b'{"userId":"user_1","token":1}', TOKEN),
        (b'{"userId":"user_1","token":"' + b"t" * 2049 + b'"}', TOKEN),
    ],
    ids=lambda value: str(value[:24]),
)
async def test_login_names_the_field_and_never_its_value(
    edge: Gateway, body: bytes, message: str
) -> None:
    async with edge.client() as http:
        answer = await http.post("/api/auth/login", content=body)
    refused(answer, 400, "VALIDATION_ERROR", message)


@pytest.mark.parametrize(
    "secret", [None, "1x0000000000000000000000000000000AA"], ids=["none", "test"]
)
@pytest.mark.parametrize("token", [{}, {"token": ""}, {"token": None}])
async def test_a_login_without_a_token_is_told_so(
    valkey_url: str, secret: str | None, token: dict[str, Any]
) -> None:
    more = {} if secret is None else {"turnstile_secret_key": secret}
    async with gateway(valkey_url, **more) as edge, edge.client() as http:
        answer = await http.post("/api/auth/login", json={"userId": "user_1"} | token)
        refused(answer, 403, "TURNSTILE_REQUIRED", "A Turnstile token is required.")


async def test_login_with_a_refused_token(valkey_url: str) -> None:
    secret = "2x0000000000000000000000000000000AA"
    async with gateway(valkey_url, turnstile_secret_key=secret) as edge:
        async with edge.client() as http:
            answer = await http.post("/api/auth/login", json=PERSON)
    refused(answer, 403, "TURNSTILE_FAILED", "The Turnstile check failed.")


async def test_login_when_turnstile_is_away(valkey_url: str) -> None:
    more = {"turnstile_secret_key": "real", "turnstile_url": "http://127.0.0.1:1/"}
    async with gateway(valkey_url, **more) as edge, edge.client() as http:
        answer = await http.post("/api/auth/login", json=PERSON)
    refused(answer, 503, "TURNSTILE_UNAVAILABLE", "Turnstile cannot be reached.")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("user", ["user_21", "nobody", "bot", "'; DROP TABLE users"])
async def test_login_of_nobody(edge: Gateway, user: str) -> None:
    bot = edge.services.directory.bots[0].id
    body = {"userId": bot if user == "bot" else user, "token": "t"}
    async with edge.client() as http:
        answer = await http.post("/api/auth/login", json=body)
    refused(answer, 404, "USER_NOT_FOUND", "There is no such user.")


async def test_the_sixth_login_within_ten_seconds(edge: Gateway) -> None:
    async with edge.client() as http:
        # What is not let through is not counted: neither of these is.
        await http.post("/api/auth/login", json={"userId": "user_1"})
        await http.post("/api/auth/login", content=b"{")
        for attempt in range(5):
            user = f"user_{attempt + 1}" if attempt else "nobody"
            answer = await http.post("/api/auth/login", json=PERSON | {"userId": user})
            assert answer.status_code == (200 if attempt else 404)
        answer = await http.post("/api/auth/login", json=PERSON)
        refused(answer, 429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        # Fields and the presence of a token are looked at first.
        answer = await http.post("/api/auth/login", json={"userId": "user_1"})
        refused(answer, 403, "TURNSTILE_REQUIRED")
    async with edge.client() as elsewhere:
        data_of(await elsewhere.post("/api/auth/login", json=PERSON))


# POST /api/auth/refresh, logout; GET me; POST ticket

GUARDED = [
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/auth/me"),
    ("POST", "/api/auth/ticket"),
    ("POST", "/api/presence"),
    ("GET", "/api/rooms/general/messages"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_a_session(edge: Gateway, method: str, path: str) -> None:
    async with edge.client() as http:
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Basic x"}):
            answer = await http.request(method, path, headers=headers)
            refused(answer, 401, "AUTH_REQUIRED", "A session is required.")
        # A session anywhere else is not looked at.
        token = await edge.login("user_1")
        answer = await http.request(
            method, path, params={"sessionId": token}, headers={"cookie": f"s={token}"}
        )
        refused(answer, 401, "AUTH_REQUIRED")


@pytest.mark.parametrize(("method", "path"), [*GUARDED, ("GET", "/api/rooms")])
async def test_with_what_is_no_session(edge: Gateway, method: str, path: str) -> None:
    token = await edge.login("user_1")
    other = await edge.login("user_2")
    dead = await edge.login("user_3")
    await edge.services.kv.ask("DEL", keys.session(token_hash(dead)))
    for wrong in ("x", token[:-1], token[:-1] + "~", "A" * 43, dead, f"{token} x"):
        async with edge.client(wrong) as http:
            answer = await http.request(method, path)
            refused(answer, 401, "AUTH_EXPIRED", "The session is not valid (any more).")
    async with edge.client() as http:
        two = [
            ("Authorization", f"Bearer {token}"),
            ("Authorization", f"bearer {other}"),
        ]
        refused(await http.request(method, path, headers=two), 401, "AUTH_EXPIRED")


async def test_refresh_gives_a_new_session_and_kills_the_old(edge: Gateway) -> None:
    old = await edge.login("user_1")
    login_id = (await edge.services.sessions.get(old)).login_id
    async with edge.client(old) as http:
        data = data_of(await http.post("/api/auth/refresh"))
        assert set(data) == {"sessionId", "expiresAt"}
        assert data["sessionId"] != old
        refused(await http.post("/api/auth/refresh"), 401, "AUTH_EXPIRED")
        refused(await http.get("/api/auth/me"), 401, "AUTH_EXPIRED")
    session = await edge.services.sessions.get(data["sessionId"])
    assert session.login_id == login_id
    assert session.expires_at == data["expiresAt"]
    assert (login_id, 4501) not in edge.hub.closed


async def test_logout_ends_the_session_and_tells_everybody(edge: Gateway) -> None:
    token = await edge.login("user_1")
    another = await edge.login("user_1")
    login_id = (await edge.services.sessions.get(token)).login_id
    heard = edge.services.kv.listen(REVOKED_CHANNEL)
    assert await anext(heard) is None
    async with edge.client(token) as http:
        assert data_of(await http.post("/api/auth/logout")) == {"success": True}
        refused(await http.post("/api/auth/logout"), 401, "AUTH_EXPIRED")
    async with patience.within(30):
        assert await anext(heard) == (REVOKED_CHANNEL, login_id)
    assert edge.hub.closed[-1] == (login_id, 4501)
    async with edge.client(another) as http:
        assert data_of(await http.get("/api/auth/me"))["id"] == "user_1"
    await heard.aclose()


async def test_me_is_the_user_with_live_status(fresh: Gateway) -> None:
    async with fresh.client(await fresh.login("user_7")) as http:
        assert data_of(await http.get("/api/auth/me"))["status"] == "offline"
        await http.post("/api/presence", json={"status": "away"})
        user = data_of(await http.get("/api/auth/me"))
    assert (user["id"], user["status"]) == ("user_7", "away")


async def test_a_ticket_stands_for_the_session_once(edge: Gateway) -> None:
    token = await edge.login("user_1")
    before = int(time.time() * 1000)
    async with edge.client(token) as http:
        data = data_of(await http.post("/api/auth/ticket"))
    assert set(data) == {"ticket", "expiresAt"}
    assert 29_000 < data["expiresAt"] - before < 31_000
    session = await edge.services.tickets.redeem(data["ticket"])
    assert session is not None and session.user_id == "user_1"
    assert await edge.services.tickets.redeem(data["ticket"]) is None


async def test_a_request_slides_the_session(edge: Gateway) -> None:
    token = await edge.login("user_1")
    key = keys.session(token_hash(token))
    now = int(time.time() * 1000)
    await edge.services.kv.ask("HSET", key, "expiresAt", now + 300_000)
    async with edge.client(token) as http:
        data_of(await http.get("/api/auth/me"))
    end = int(await edge.services.kv.ask("HGET", key, "expiresAt"))
    assert end - now > 1_199_000


# GET /api/users, /api/auth/accounts


@pytest.mark.parametrize("path", ["/api/users", "/api/auth/accounts"])
async def test_people_with_live_status_then_the_bots_in_rotation(
    fresh: Gateway, path: str
) -> None:
    directory = fresh.services.directory
    bots = [bot.id for bot in directory.bots][:2]
    await fresh.services.kv.ask("SADD", keys.BOTS_ACTIVE, *bots, "no_such_bot")
    await fresh.services.kv.ask("HSET", keys.presence("user_2"), "status", "busy")
    await fresh.services.kv.ask("HSET", keys.presence("user_3"), "status", "odd")
    async with fresh.client() as http:
        listed = data_of(await http.get(path))
    assert [user["id"] for user in listed] == [p.id for p in directory.people] + bots
    status = {user["id"]: user["status"] for user in listed}
    assert status["user_1"] == status["user_3"] == "offline"
    assert status["user_2"] == "busy"
    assert all(user["isAiBot"] == (user["id"] in bots) for user in listed)
    required = {"id", "email", "displayName", "avatarId", "status", "isAiBot"}
    assert all(required <= set(user) for user in listed)
    assert all(None not in user.values() for user in listed)


async def test_bots_that_are_switched_off_are_not_listed(fresh: Gateway) -> None:
    kv = fresh.services.kv
    await kv.ask("SADD", keys.BOTS_ACTIVE, fresh.services.directory.bots[0].id)
    for enabled, expected in (("0", 0), ("1", 1)):
        await kv.ask("SET", keys.BOT_ENABLED, enabled)
        async with fresh.client() as http:
            listed = data_of(await http.get("/api/users"))
        assert sum(user["isAiBot"] for user in listed) == expected


async def test_without_bots_none_is_listed_whatever_is_remembered(
    valkey_url: str, empty_valkey: str
) -> None:
    async with gateway(valkey_url, bots_active="0") as edge, edge.client() as http:
        bot = edge.services.directory.bots[0].id
        await edge.services.kv.ask("SADD", keys.BOTS_ACTIVE, bot)
        listed = data_of(await http.get("/api/users"))
    assert not any(user["isAiBot"] for user in listed)


# GET /api/rooms

PUBLIC = [
    {"id": "general", "name": "General", "type": "group"},
    {"id": "music", "name": "Music", "type": "group"},
]
PUBLIC = [room | {"participantIds": [], "unreadCount": 0} for room in PUBLIC]


def chat(room: str, seq: int, sender: str) -> tuple[int, bytes]:
    said = f"message {seq}"
    return seq, encode(
        ChatMessage(
            f"m{seq}", room, sender, sender, said, 1000 + seq, seq, False, False
        )
    )


async def test_rooms_without_a_session_are_the_public_ones(fresh: Gateway) -> None:
    async with fresh.client() as http:
        assert data_of(await http.get("/api/rooms")) == PUBLIC


async def test_rooms_with_a_session_add_the_direct_ones_latest_first(
    fresh: Gateway,
) -> None:
    with_2, with_3 = "dm_user_1__user_2", "dm_user_1__user_3"
    index = keys.user_rooms("user_1")
    await fresh.services.kv.ask("ZADD", index, 10, with_2, 20, with_3)
    await fresh.services.kv.ask("ZADD", index, 30, "dm_user_1__gone")
    await fresh.services.kv.ask("ZADD", index, 40, "dm_user_8__user_9")
    fresh.log.rooms[f"room:{with_2}"] = [
        chat(with_2, seq, "user_1" if seq == 2 else "user_2") for seq in range(1, 60)
    ]
    fresh.log.rooms[f"room:{with_3}"] = [
        chat(with_3, seq, "user_3") for seq in range(1, 6)
    ]
    fresh.log.mirrors[f"room:{with_3}"] = snapshot({"user_1": 3})
    async with fresh.client(await fresh.login("user_1")) as http:
        listed = data_of(await http.get("/api/rooms"))
    assert listed[:2] == PUBLIC
    names = {user.id: user.display_name for user in fresh.services.directory.people}
    assert listed[2:] == [
        {
            "id": with_3,
            "name": names["user_3"],
            "type": "direct",
            "participantIds": ["user_1", "user_3"],
            "unreadCount": 2,
        },
        {
            "id": with_2,
            "name": names["user_2"],
            "type": "direct",
            "participantIds": ["user_1", "user_2"],
            "unreadCount": 57,
        },
    ]


async def test_what_is_unread_follows_the_read_mark_and_not_the_mirror(
    fresh: Gateway,
) -> None:
    room = "dm_user_1__user_2"
    name, kv = f"room:{room}", fresh.services.kv
    await kv.ask("ZADD", keys.user_rooms("user_1"), 10, room)
    fresh.log.rooms[name] = [chat(room, seq, "user_2") for seq in range(1, 6)]
    async with fresh.client(await fresh.login("user_1")) as http:

        async def unread() -> int:
            found = data_of(await http.get("/api/rooms"))[2]["unreadCount"]
            assert isinstance(found, int)
            return found

        assert await unread() == 5
        # A room that has slept since read marks were in the mirror.
        fresh.log.mirrors[name] = snapshot({"user_1": 2, "user_2": 5})
        assert await unread() == 3
        for mark in (3, 5):
            await kv.ask("ZADD", keys.reads(name), "GT", mark, "user_1")
            assert await unread() == 5 - mark
        await kv.ask("ZADD", keys.reads(name), "GT", 9, "user_2")
        fresh.log.rooms[name].append(chat(room, 6, "user_2"))
        assert await unread() == 1


def snapshot(marks: dict[str, int], rows: list[KeptRow] | None = None) -> bytes:
    return mirror.encode(
        mirror.RoomSnapshot(9, 0, rows or [], {}, {}, marks, [], [], False)
    )


# GET /api/rooms/{id}/messages


async def test_history_in_pages_oldest_first(fresh: Gateway) -> None:
    fresh.log.rooms["room:general"] = [
        chat("general", seq, "user_2") for seq in range(1, 251)
    ]

    async with fresh.client(await fresh.login("user_1")) as http:

        async def page(query: str) -> tuple[list[int], int | None]:
            answer = await http.get(f"/api/rooms/general/messages{query}")
            data = data_of(answer)
            assert set(data) <= {"messages", "nextBefore"}
            return [m["seq"] for m in data["messages"]], data.get("nextBefore")

        assert await page("") == (list(range(151, 251)), 151)
        assert await page("?before=151") == (list(range(51, 151)), 51)
        assert await page("?before=51") == (list(range(1, 51)), None)
        assert await page("?before=51&limit=50") == (list(range(1, 51)), None)
        assert await page("?before=1") == ([], None)
        assert await page("?limit=2") == ([249, 250], 249)
        assert await page("?limit=0") == ([250], 250)
        assert await page("?limit=-5") == ([250], 250)
        assert await page("?limit=1000000000") == (list(range(151, 251)), 151)
        assert await page("?before=99999&limit=1") == ([250], 250)


async def test_history_is_what_was_said_with_later_statuses(fresh: Gateway) -> None:
    room = "dm_user_1__user_2"
    events = [chat(room, 1, "user_1"), chat(room, 2, "user_2")]
    fresh.log.rooms[f"room:{room}"] = events
    row = KeptRow(1, 2, "user_2", "m2", 1002, events[1][1], "read")
    fresh.log.mirrors[f"room:{room}"] = snapshot({}, [row])
    async with fresh.client(await fresh.login("user_1")) as http:
        # The other order of the two is the same room.
        answer = await http.get("/api/rooms/dm_user_2__user_1/messages")
        first, second = data_of(answer)["messages"]
        assert first == msgspec.json.decode(events[0][1])
        assert second == msgspec.json.decode(events[1][1]) | {"status": "read"}
        fresh.log.mirrors[f"room:{room}"] = b"damaged"
        answer = await http.get("/api/rooms/dm_user_2__user_1/messages")
        assert "status" not in data_of(answer)["messages"][1]
        music = await http.get("/api/rooms/music/messages")
        assert data_of(music) == {"messages": []}


@pytest.mark.parametrize("bad", ["0", "-1", "x", "", "1.5", "1e3", "٣", "9" * 16])
async def test_history_before_what_is_no_seq(edge: Gateway, bad: str) -> None:
    async with edge.client(await edge.login("user_1")) as http:
        answer = await http.get("/api/rooms/general/messages", params={"before": bad})
        refused(answer, 400, "VALIDATION_ERROR", "before: must be a seq")


async def test_history_limit_that_is_no_number(edge: Gateway) -> None:
    async with edge.client(await edge.login("user_1")) as http:
        answer = await http.get("/api/rooms/general/messages?limit=ten")
        refused(answer, 400, "VALIDATION_ERROR", "limit: must be a number")


ROOMS = [
    ("General", 400, "INVALID_ROOM_ID"),
    ("a" * 65, 400, "INVALID_ROOM_ID"),
    ("-x", 400, "INVALID_ROOM_ID"),
    ("..%2fx", 400, "INVALID_ROOM_ID"),
    ("a%00b", 400, "INVALID_ROOM_ID"),
    ("a%0d%0ab", 400, "INVALID_ROOM_ID"),
    ("%ff%fe", 400, "INVALID_ROOM_ID"),
    ("gen%C3%A9ral", 400, "INVALID_ROOM_ID"),
    ("system_x", 403, "ROOM_RESERVED"),
    ("admin_x", 403, "ROOM_RESERVED"),
    ("elsewhere", 404, "ROOM_NOT_FOUND"),
    ("dm_user_1", 404, "ROOM_NOT_FOUND"),
    ("dm_user_1__user_1", 404, "ROOM_NOT_FOUND"),
    ("dm_user_1__nobody", 404, "ROOM_NOT_FOUND"),
    ("dm_user_1__user_2__user_3", 404, "ROOM_NOT_FOUND"),
    ("dm_user_2__user_3", 403, "NOT_A_PARTICIPANT"),
    ("dm_user_3__user_2", 403, "NOT_A_PARTICIPANT"),
]


@pytest.mark.parametrize(("room", "status", "code"), ROOMS)
async def test_history_of_a_room_one_may_not_read(
    edge: Gateway, room: str, status: int, code: str
) -> None:
    async with edge.client(await edge.login("user_1")) as http:
        refused(await http.get(f"/api/rooms/{room}/messages"), status, code)


async def test_any_valid_room_exists_when_rooms_are_open(valkey_url: str) -> None:
    async with gateway(valkey_url, open_rooms="1") as edge:
        async with edge.client(await edge.login("user_1")) as http:
            data_of(await http.get("/api/rooms/elsewhere/messages"))
            answer = await http.get("/api/rooms/dm_user_1/messages")
            refused(answer, 404, "ROOM_NOT_FOUND")


# POST /api/presence


@pytest.mark.parametrize("status", ["online", "busy", "away", "offline"])
async def test_presence_is_told_and_answered(fresh: Gateway, status: str) -> None:
    async with fresh.client(await fresh.login("user_4")) as http:
        answer = await http.post("/api/presence", json={"status": status})
        name = fresh.services.directory.get("user_4").display_name
        assert data_of(answer) == {"status": status, "displayName": name}
        # Without rows nobody can be called otherwise; the status is told all the same.
        body = {"status": status, "displayName": "Zoë 🎧"}
        refused(await http.post("/api/presence", json=body), 503, "UNAVAILABLE")
        listed = data_of(await http.get("/api/users"))
    assert {u["id"]: u["status"] for u in listed}["user_4"] == status


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "status"),
        ({"status": "invisible"}, "status"),
        ({"status": 1}, "status"),
        ({"status": "away", "displayName": ""}, "displayName"),
        ({"status": "away", "displayName": "x" * 51}, "displayName"),
        ({"status": "away", "displayName": "🎧" * 26}, "displayName"),
        ({"status": "away", "displayName": "a\u202eb"}, "displayName"),
        ({"status": "away", "displayName": "a\x00b"}, "displayName"),
        ({"status": "away", "displayName": 7}, "displayName"),
    ],
)
async def test_presence_names_the_bad_field(
    edge: Gateway, body: dict[str, Any], field: str
) -> None:
    async with edge.client(await edge.login("user_1")) as http:
        answer = await http.post("/api/presence", json=body)
        message = refused(answer, 400, "VALIDATION_ERROR")
        assert message.startswith(f"{field}: must be ")
        answer = await http.post("/api/presence", content=b"{")
        refused(answer, 400, "INVALID_JSON")


async def test_presence_when_the_actors_are_away(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.hub, "error", Unavailable())
    async with edge.client(await edge.login("user_1")) as http:
        answer = await http.post("/api/presence", json={"status": "away"})
    refused(answer, 503, "UNAVAILABLE", "Not available right now.")
    assert answer.headers["retry-after"] == "1"


# WebSocket paths without a WebSocket


@pytest.mark.parametrize("path", ["/api/ws/presence", "/api/ws/room/general"])
async def test_a_websocket_path_asked_plainly(edge: Gateway, path: str) -> None:
    async with edge.client() as http:
        answer = await http.get(path)
        refused(answer, 426, "UPGRADE_REQUIRED", "This is a WebSocket endpoint.")
        assert answer.headers["upgrade"] == "websocket"
        answer = await http.post(path)
        refused(answer, 405, "METHOD_NOT_ALLOWED")
        assert "GET" in answer.headers["allow"]


# How often one user may make Valkey write.


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/auth/ticket", None), ("/api/presence", {"status": "busy"})],
)
async def test_calls_that_write_are_bounded(
    edge: Gateway, path: str, body: dict[str, str] | None
) -> None:
    edge.services.calls = UserRates(3, 60_000)
    async with edge.client(await edge.login("user_11")) as http:
        for _ in range(3):
            data_of(await http.post(path, json=body))
        answer = await http.post(path, json=body)
        refused(answer, 429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        data_of(await http.get("/api/auth/me"))  # reading is free
    async with edge.client(await edge.login("user_12")) as http:
        data_of(await http.post(path, json=body))


async def test_refreshes_are_bounded_by_user_not_by_token(edge: Gateway) -> None:
    edge.services.calls = UserRates(3, 60_000)
    token = await edge.login("user_11")
    for left in (2, 1, 0, -1):
        async with edge.client(token) as http:
            answer = await http.post("/api/auth/refresh")
            if left < 0:
                refused(answer, 429, "RATE_LIMITED")
                data_of(await http.get("/api/auth/me"))  # and the session lives on
            else:
                token = data_of(answer)["sessionId"]


# GET /healthz, /readyz, /metrics


async def test_health_is_plain(edge: Gateway) -> None:
    async with edge.client() as http:
        answer = await http.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_ready_says_what_is_not(edge: Gateway) -> None:
    async with edge.client() as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ray ok\nvalkey ok\n")
        assert answer.headers["content-type"].startswith("text/plain")
        edge.hub.parts = {"ray": False, "sql": False, "valkey": True}
        answer = await http.get("/readyz")
        text = "ray down\nsql down\nvalkey ok\n"
        assert (answer.status_code, answer.text) == (503, text)
        edge.hub.others = {"another": frozenset({"ray", "sql"})}
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.text) == (200, f"{text}degraded: ray, sql\n")


async def test_metrics_are_prometheus_text(edge: Gateway) -> None:
    async with edge.client() as http:
        await http.get("/api/config")
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'cfm_http_requests_total{method="GET",route="/api/config"' in answer.text


async def test_everything_that_needs_valkey_says_503_without_it(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await edge.login("user_1")
    away = Valkey("unix:///nowhere/at/all")
    monkeypatch.setattr(edge.services, "kv", away)
    for part in ("sessions", "tickets"):
        monkeypatch.setattr(getattr(edge.services, part), "_kv", away)
    monkeypatch.setattr(edge.services.login_rate._rate, "_kv", away)
    calls = [*GUARDED, ("GET", "/api/users"), ("GET", "/api/rooms")]
    async with edge.client(token) as http:
        answers = await asyncio.gather(
            *(http.request(method, path) for method, path in calls),
            http.post("/api/auth/login", json=PERSON),
        )
    for answer in answers:
        refused(answer, 503, "UNAVAILABLE", "Not available right now.")
        assert answer.headers["retry-after"] == "1"
