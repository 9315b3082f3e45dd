"""What the original browser client does, step by step, and what it looks at.

It signs in, lists contacts and rooms, opens its sockets with everything in the query,
pings, chats with fields it makes up, acknowledges and sets its status. Its validator
takes an optional text for `content`, `id`, `roomId`, `senderId` and `displayName`, so a
null anywhere would make it drop the frame; a join without a status means online.
"""

import json
from typing import Any
from urllib.parse import quote

import httpx2

from tests.gateway.node import Frame, Node, Socket, dial
from tests.wire_rows import wire

STATUSES = {"online", "away", "busy", "offline"}
TEXTS = ("content", "id", "roomId", "senderId", "displayName", "ackId")


class Browser:
    """One user's tab: `fetch` as it calls it, and its two kinds of WebSocket."""

    def __init__(self, node: Node, gateway: int = 0) -> None:
        self._node = node
        self._port = node.gateways[gateway].port
        self.http = node.gateways[gateway].client()
        self.session_id: str | None = None
        self.user: dict[str, Any] = {}

    async def fetch(self, path: str, body: object = None) -> Any:
        headers = {"Origin": f"http://127.0.0.1:{self._port}"}
        if self.session_id is not None:
            headers["Authorization"] = f"Bearer {self.session_id}"
        if body is None:
            answer = await self.http.get(f"/api{path}", headers=headers)
        else:
            # A string body without a type of its own goes out as text/plain.
            headers["Content-Type"] = "text/plain;charset=UTF-8"
            answer = await self.http.post(
                f"/api{path}", content=json.dumps(body), headers=headers
            )
        assert answer.is_success, answer.text
        return unwrapped(answer)

    async def login(self, user_id: str) -> None:
        session = await self.fetch(
            "/auth/login", {"userId": user_id, "token": "XXXX.DUMMY.TOKEN.XXXX"}
        )
        self.session_id, self.user = session["sessionId"], session["user"]

    async def socket(self, path: str) -> Socket:
        name = quote(self.user["displayName"])
        query = f"sessionId={self.session_id}&userId={self.user['id']}"
        url = f"ws://127.0.0.1:{self._port}/api/ws/{path}?{query}&displayName={name}"
        origin = f"http://127.0.0.1:{self._port}"
        connection = await dial(url, additional_headers={"Origin": origin})
        assert self.session_id is not None
        opened = Socket(connection, self.user["id"], self.session_id)
        self._node._stack.push_async_callback(opened.close)
        return opened


def unwrapped(answer: httpx2.Response) -> Any:
    body = answer.json()
    assert body["success"] is True
    return body["data"]


def parses(frame: Frame) -> bool:
    """Its validator: texts are texts, statuses are what it knows."""
    lists = [frame.get(name, []) for name in ("participants", "messages")]
    return (
        isinstance(frame["type"], str)
        and all(isinstance(frame.get(name, ""), str) for name in TEXTS)
        and frame.get("status", "sent") in {"sent", "delivered", "read", *STATUSES}
        and all(isinstance(each, list) for each in lists)
    )


def is_user(user: dict[str, Any]) -> bool:
    texts = ("id", "email", "displayName", "avatarId")
    return (
        all(isinstance(user[name], str) and user[name] for name in texts)
        and user["status"] in STATUSES
        and isinstance(user["isAiBot"], bool)
        and None not in user.values()
    )


@wire("1 config", "1 login", "1 users", "1 rooms", "1 User", "1 Room", "1 presenting")
async def test_it_signs_in_and_lists_contacts_and_rooms(node: Node) -> None:
    tab = Browser(node)
    async with tab.http:
        # Before anybody has signed in: the login screen.
        config = await tab.fetch("/config")
        assert config == {"TURNSTILE_SITE_KEY": ""}
        accounts = await tab.fetch("/auth/accounts")
        assert accounts == await tab.fetch("/users")
        assert all(is_user(user) for user in accounts)
        assert len([user for user in accounts if not user["isAiBot"]]) == 20
        assert len({user["id"] for user in accounts}) == len(accounts)
        await tab.login("user_1")
        assert tab.session_id and is_user(tab.user) and tab.user["id"] == "user_1"
        assert is_user(await tab.fetch("/auth/me"))
        rooms = await tab.fetch("/rooms")
        assert {"general", "music"} <= {room["id"] for room in rooms}
        for room in rooms:
            fields = {"id", "name", "type", "participantIds", "unreadCount"}
            assert set(room) == fields
            assert room["type"] in ("group", "direct")


@wire("1 presenting", "2 server sets", "2 ack", "3 delivery_status", "2 ping")
async def test_it_chats_and_acknowledges(node: Node) -> None:
    first, second = Browser(node), Browser(node, 1)
    async with first.http, second.http:
        await first.login("user_1")
        await second.login("user_2")
        ours = await first.socket("room/general")
        theirs = await second.socket("room/general")
        for tab in (ours, theirs):
            await tab.wait("system", content="Connected to ChatRoom")
            here = await tab.wait("participants", lambda f: len(f["participants"]) >= 2)
            assert all(
                {"id", "displayName", "status"} <= set(who)  # more it does not read
                and who["status"] in STATUSES
                for who in here["participants"]
            )
        await ours.raw('{"type":"ping"}')
        await ours.wait("pong")
        message = {
            "id": "temp_1700000000000",
            "roomId": "general",
            "senderId": "user_1",
            "content": "a/s/l?",
            "timestamp": 1_700_000_000_000,
            "isNudge": False,
            "isWink": False,
            "type": "chat",
        }
        await ours.raw(json.dumps(message))
        echo = await ours.wait("chat")
        seen = await theirs.wait("chat", content="a/s/l?")
        # It finds its own message again by the id it made up.
        assert seen == echo and echo["id"] == message["id"]
        assert echo["roomId"] == "general" and echo["senderId"] == "user_1"
        assert echo["timestamp"] > 1_700_000_000_000
        for status in ("delivered", "read"):
            await theirs.raw(
                json.dumps({"type": "ack", "ackId": seen["id"], "status": status})
            )
            told = await ours.wait("delivery_status", status=status)
            assert told["ackId"] == message["id"] and told["roomId"] == "general"
        await theirs.raw('{"type":"typing","isTyping":true}')
        typing = await ours.wait("typing", isTyping=True)
        assert typing["senderId"] == "user_2" and typing["displayName"]
        await theirs.raw('{"type":"nudge"}')
        nudge = await ours.wait("nudge")
        assert nudge["isNudge"] is True and nudge["content"] == "sent a nudge."
        late = await first.socket("room/general")
        history = await late.wait("history")
        kept = [m for m in history["messages"] if m["id"] == message["id"]]
        assert kept[0]["status"] == "read"
        for tab in (ours, theirs, late):
            assert all(parses(frame) for frame in tab.frames)
            assert all(parses(m) for f in tab.of("history") for m in f["messages"])
        # An error carries its text where old clients look for it.
        await ours.raw('{"type":"chat","content":""}')
        error = await ours.wait("error")
        assert error["content"] == error["message"] and parses(error)


@wire("4 client", "4 changes", "4 notification", "1 presenting", "2 presence")
async def test_it_watches_presence_and_sets_its_status(node: Node) -> None:
    first, second = Browser(node), Browser(node, 1)
    async with first.http, second.http:
        await first.login("user_18")
        await second.login("user_19")
        ours = await first.socket("presence")
        await ours.wait("presence_full_sync")
        theirs = await second.socket("presence")
        sync = await theirs.wait("presence_full_sync")
        there = {who["id"]: who for who in sync["participants"]}
        assert there["user_18"]["displayName"] == first.user["displayName"]
        join = await ours.wait("presence_join", userId="user_19")
        assert join.get("status", "online") == "online"
        # What `setPresence` sends, to both kinds of socket; undefined is left out.
        room = await second.socket("room/general")
        await room.wait("participants")
        update = {"type": "presence_update", "userId": "user_1", "status": "away"}
        await theirs.raw(json.dumps(update))
        change = await ours.wait("presence_update", userId="user_19")
        assert change["status"] == "away"
        said = {"type": "presence", "status": "away", "senderId": "user_1"}
        await room.raw(json.dumps(said))
        here = await room.wait(
            "participants",
            lambda f: (
                {"user_19": "away"}
                in [{who["id"]: who["status"]} for who in f["participants"]]
            ),
        )
        assert parses(here)
        users = await first.fetch("/users")
        assert next(u for u in users if u["id"] == "user_19")["status"] == "away"
        # A direct message is told on the presence socket, with the room to open.
        talk = await second.socket("room/dm_user_18__user_19")
        await talk.wait("system")
        await talk.raw('{"type":"chat","id":"temp_1","content":"psst"}')
        told = await ours.wait("message_notification")
        assert told["message"]["roomId"] == "dm_user_18__user_19"
        assert told["message"]["senderId"] == "user_19" and parses(told["message"])
        await theirs.raw('{"type":"ping"}')
        await theirs.wait("pong")
        await theirs.raw('{"type":"presence_update","status":"online"}')
        await ours.wait("presence_update", userId="user_19", status="online")
