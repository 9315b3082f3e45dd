"""The bots over whole gateways, rooms and a director: seen, spoken to, killed, spent.

Only the pace is quickened, and where a test must know what is said, the replier is its
own; the others talk to the scripted one.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import valkey

from actors.bots import thinking
from actors.bots.thinking import Bots
from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots import DIRECTOR
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.ids import PRESENCE, direct_room
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import pairs
from gateway.live import bots as bots_module
from tests.effort import long_only
from tests.gateway.edge import data_of
from tests.gateway.node import Node, Socket, eventually, live, new_room, own_valkey

BOTS = Directory.load().bots
ALL = {bot.id for bot in BOTS}
DJ, DORIS = BOTS[0], BOTS[2]
Figures = dict[str, int]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch, empty_valkey: str) -> None:
    """Nobody has asked today, and bots type fast."""
    monkeypatch.setattr(thinking, "FASTEST_MS", 50)
    monkeypatch.setattr(thinking, "SLOWEST_MS", 200)
    monkeypatch.setattr(bots_module, "POLL_S", 0.05)


class Parrot:
    """A replier that repeats what was said, after a while."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.thinking = 0
        self.most = 0

    def __call__(self, bots: Bots) -> "Parrot":
        return self

    async def reply(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        self.thinking += 1
        self.most = max(self.most, self.thinking)
        try:
            await asyncio.sleep(self.takes_s)
            return Answer(f"parrot: {question.text}")
        finally:
            self.thinking -= 1

    async def aclose(self) -> None:
        pass


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    found = Parrot(0.1)
    monkeypatch.setattr(thinking, "_load", found)
    return found


@asynccontextmanager
async def party(valkey_url: str, gateways: int = 1, **more: str) -> AsyncIterator[Node]:
    """Gateways with all bots in rotation, so that the hour does not matter."""
    settings = {"bots_active": "9", "chat_rate": "0"} | more
    async with live(valkey_url, gateways, **settings) as node:
        active = min(int(settings["bots_active"]), len(BOTS))
        await eventually(lambda: _rotated(node, active), what="a rotation")
        yield node


async def _rotated(node: Node, count: int) -> bool:
    kv = node.gateways[0].services.kv
    return len(await kv.ask("SMEMBERS", keys.BOTS_ACTIVE)) == count


async def figures(node: Node) -> Figures:
    """Today's, of all bots together."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    kv = node.gateways[0].services.kv
    stored = pairs(await kv.ask("HGETALL", keys.bots_metrics(today)))
    found: Counter[str] = Counter()
    for field, value in stored.items():
        found[field.decode().rpartition(":")[2]] += int(value)
    return found


async def log_of(node: Node, room: str) -> list[dict[str, Any]]:
    rows = await node.hub().log.after(f"room:{room}", 0, 1000)
    return [msgspec.json.decode(row.event) for row in rows]


def answers(log: list[dict[str, Any]]) -> Counter[str]:
    """How often each question was answered, by the answer's id."""
    return Counter(each["id"] for each in log if each["id"].startswith("re."))


async def answered(
    socket: Socket, echo: dict[str, Any], bot: Profile
) -> dict[str, Any]:
    """The bot's answer to a message."""
    return await socket.has("chat", id=f"re.{echo['seq']}", senderId=bot.id)


# Who is there.


async def shown(socket: Socket) -> set[str]:
    """The bots that a watcher sees."""
    there: set[str] = set()
    for frame in socket.frames:
        if frame["type"] == "presence_full_sync":
            if not frame.get("partial"):
                there.clear()
            there |= {who["id"] for who in frame["participants"]}
            there -= {
                who["id"]
                for who in frame["participants"]
                if who.get("status") == "offline"
            }
        elif frame["type"] == "presence_join":
            there.add(frame["userId"])
        elif frame["type"] == "presence_update" and frame["status"] == "offline":
            there.discard(frame["userId"])
    return there & ALL


async def listed(node: Node, gateway: int = 0) -> set[str]:
    """The bots that /api/users lists."""
    async with node.gateways[gateway].client() as http:
        users = data_of(await http.get("/api/users"))
    return {user["id"] for user in users if user["isAiBot"]}


async def test_those_in_rotation_are_seen_on_every_gateway(valkey_url: str) -> None:
    async with party(valkey_url, 2, bots_active="4") as node:
        watchers = [await node.watch(f"user_{n + 1}", gateway=n) for n in range(2)]
        on_first = await listed(node)
        assert len(on_first) == 4
        assert await listed(node, 1) == on_first
        line = await node.gateways[0].services.kv.ask("GET", keys.BOTS_LINE)
        assert {bot.encode() for bot in ALL} == set(line.split())
        assert {bot.encode() for bot in on_first} == set(line.split()[-4:])
        for watcher in watchers:
            await eventually(_sees(watcher, on_first))
        late = await node.watch("user_3")
        sync = await late.has("presence_full_sync")
        assert on_first <= {who["id"] for who in sync["participants"]}
        async with node.gateways[1].client() as http:
            text = (await http.get("/metrics")).text
        for bot in on_first:
            assert f'cfm_bot_rotations_total{{bot="{bot}"}} 1.0' in text


def _sees(watcher: Socket, bots: set[str]) -> Callable[[], Any]:
    async def sees() -> bool:
        return await shown(watcher) == bots

    return sees


async def test_a_registry_that_crashed_is_told_again(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", Placement("dedicated", 1, 1))
    async with party(valkey_url) as node:
        watcher = await node.watch("user_1")
        await eventually(_sees(watcher, ALL))
        await node.kill(PRESENCE)
        await eventually(_sees(await node.watch("user_2"), ALL))


async def test_switched_off_they_leave_and_say_nothing(valkey_url: str) -> None:
    async with party(valkey_url) as node:
        kv = node.gateways[0].services.kv
        watcher = await node.watch("user_1")
        await eventually(_sees(watcher, ALL))
        room = new_room()
        al = await node.enter("user_2", room)
        await kv.ask("SET", keys.BOT_ENABLED, "0")
        await eventually(_sees(watcher, set()))
        assert await listed(node) == set()
        await al.say(f"@{DJ.id} are you there?")

        async def refused() -> bool:
            return (await figures(node))["refused_off"] == 1

        await eventually(refused)
        await kv.ask("SET", keys.BOT_ENABLED, "1")
        await eventually(_sees(watcher, ALL))
        echo = await al.say(f"@{DJ.id} and now?")
        await answered(al, echo, DJ)
        assert sum(answers(await log_of(node, room)).values()) == 1


async def test_switched_off_under_an_answer_it_is_not_given(
    valkey_url: str, parrot: Parrot
) -> None:
    parrot.takes_s = 0.5
    async with party(valkey_url) as node:
        room = new_room()
        al = await node.enter("user_1", room)
        await al.say(f"@{DJ.id} hello")
        await al.wait("typing", senderId=DJ.id, isTyping=True)
        await node.gateways[0].services.kv.ask("SET", keys.BOT_ENABLED, "0")
        await al.wait("typing", senderId=DJ.id, isTyping=False)
        assert not answers(await log_of(node, room))


# Conversations.


async def test_a_conversation_in_a_room(valkey_url: str) -> None:
    async with party(valkey_url, 2) as node:
        room = new_room()
        al = await node.enter("user_1", room)
        bo = await node.enter("user_2", room, gateway=1)
        await al.say("nobody in particular")
        said = []
        for bot in BOTS[:3]:
            echo = await al.say(f"@{bot.display_name} what do you like?")
            await bo.wait("typing", senderId=bot.id, isTyping=True)
            for socket in (al, bo):
                answer = await answered(socket, echo, bot)
                assert answer["displayName"] == bot.display_name
                assert 1 <= len(answer["content"]) <= 2048
            said.append(answer["content"])
        assert len(set(said)) == 3
        assert sum(answers(await log_of(node, room)).values()) == 3
        await eventually(lambda: _counted(node, mentions=3, replies=3))
        assert (await figures(node))["latency_count"] == 3


async def _counted(node: Node, **expected: int) -> bool:
    found = await figures(node)
    return all(found[name] == amount for name, amount in expected.items())


async def test_a_direct_room_needs_no_mention_and_is_listed(valkey_url: str) -> None:
    async with party(valkey_url) as node:
        room = direct_room("user_1", DORIS.id)
        al = await node.enter("user_1", room)
        first = await al.say("hello, how do I fix my modem?")
        await answered(al, first, DORIS)
        second = await al.say("it still makes that noise")
        await answered(al, second, DORIS)
        token = await node.token("user_1")
        async with node.gateways[0].client(token) as http:
            rooms = data_of(await http.get("/api/rooms"))
        found = next(each for each in rooms if each["id"] == room)
        assert found["name"] == DORIS.display_name
        assert found["type"] == "direct"
        assert set(found["participantIds"]) == {"user_1", DORIS.id}
        assert found["unreadCount"] == 1, "the last answer"
        async with node.gateways[0].client() as http:
            body = {"userId": DORIS.id, "token": "x"}
            refused = await http.post("/api/auth/login", json=body)
        assert refused.json()["error"]["code"] == "USER_NOT_FOUND"


async def test_who_is_off_duty_says_who_is_on_and_what_is_switched_off_is_silent(
    valkey_url: str, parrot: Parrot
) -> None:
    async with party(valkey_url, bots_active="1", bot_quota_user="1") as node:
        (on,) = await listed(node)
        off = next(bot for bot in BOTS if bot.id != on)
        name = next(bot.display_name for bot in BOTS if bot.id == on)
        room = direct_room("user_1", off.id)
        al = await node.enter("user_1", room)
        answer = await answered(al, await al.say("are you there?"), off)
        assert "off duty" in answer["content"] and f"try {name}." in answer["content"]
        again = await al.say("and now?")
        await eventually(lambda: _counted(node, refused_off_duty=2))

        crowd = await node.enter("user_1", new_room())
        await answered(crowd, await crowd.say(f"@{on} hi"), _bot(on))
        kv = node.gateways[0].services.kv
        await kv.ask("SET", keys.BOT_ENABLED, "0")
        await crowd.say(f"@{on} over the quota")  # one excuse of either kind
        await eventually(lambda: _counted(node, refused_off=1))
        await crowd.say(f"@{off.id} off duty")
        await eventually(lambda: _counted(node, refused_off=2))
        await kv.ask("SET", keys.BOT_ENABLED, "1")
        log = await log_of(node, room)
        assert sum(answers(log).values()) == 1
        assert f"re.{again['seq']}" not in answers(log)
        assert parrot.most == 1, "and nothing was thought of for any of these"


def _bot(bot_id: str) -> Profile:
    return next(bot for bot in BOTS if bot.id == bot_id)


async def test_an_answer_comes_though_whoever_asked_has_left(
    valkey_url: str, parrot: Parrot
) -> None:
    """And its gateway, without a socket in the room, forgets both objects again."""
    parrot.takes_s = 0.5
    async with party(valkey_url, hibernate_after="0.2") as node:
        room = new_room()
        al = await node.enter("user_1", room)
        echo = await al.say(f"@{DJ.id} bye")
        await al.wait("typing", senderId=DJ.id)
        await al.close()
        await node.asleep(f"room:{room}")

        async def there() -> bool:
            return bool(answers(await log_of(node, room)))

        await eventually(there)
        back = await node.enter("user_1", room)
        assert (await back.has("history"))["messages"][-1]["id"] == f"re.{echo['seq']}"
        await back.close()
        await node.asleep(f"room:{room}")
        await node.asleep(DIRECTOR)
        await eventually(
            lambda: not node.hub().stubs.by_name.keys() & {DIRECTOR, f"room:{room}"}
        )


# Once at most.


@long_only
async def test_killed_twenty_times_no_message_has_two_answers(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, parrot: Parrot
) -> None:
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", Placement("dedicated", 1, 1))
    choice = random.Random(20)
    async with party(valkey_url, 2) as node:
        rooms = [new_room() for _ in range(20)]
        for n, room in enumerate(rooms):
            # Some surely before the answer, some surely after it, the others somewhere.
            parrot.takes_s = 600.0 if n % 4 == 1 else 0.1
            al = await node.enter("user_1", room, gateway=n % 2)
            echo = await al.say(f"@{DJ.id} are you alive?")
            if n % 4 == 1:
                await eventually(lambda: parrot.thinking)
            elif n % 4 == 2:
                await answered(al, echo, DJ)
            else:
                await asyncio.sleep(choice.uniform(0.0, 0.25))
            await node.kill(DIRECTOR if n % 2 else f"room:{room}")
            await al.say("still here")
        logs = [await log_of(node, room) for room in rooms]
        lost = sum(not answers(log) for log in logs)
        assert 5 <= lost <= 15
        await eventually(lambda: parrot.thinking == 0)
        # Nobody's room is busy for ever, and nothing of the past comes back.
        for n, room in enumerate(rooms):
            socket = await node.enter("user_2", room, gateway=n % 2)
            echo = await socket.say(f"@{DORIS.id} and you?")
            await answered(socket, echo, DORIS)
        for room in rooms:
            found = answers(await log_of(node, room))
            assert set(found.values()) == {1}, found


# The budget.


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """A list of two hundred people, and the bots."""
    people = [
        Profile(
            id=f"person_{n}",
            email=f"person{n}@cfm.example",
            display_name=f"Person {n}",
            avatar_id="blank",
        )
        for n in range(200)
    ]
    path = tmp_path / "users.json"
    path.write_bytes(msgspec.json.encode([*people, *BOTS]))
    return path


async def test_two_hundred_ask_and_thirty_are_answered(
    valkey_url: str, parrot: Parrot, crowd: Path, admin_valkey: valkey.Valkey
) -> None:
    limits = {"bot_quota_day": "30", "bot_quota_room": "10", "users": str(crowd)}
    async with party(valkey_url, 2, **limits) as node:
        rooms = [new_room() for _ in range(20)]
        sockets: list[Socket] = []
        for start in range(0, 200, 20):  # all at once is not what is tested
            entering = (
                node.enter(f"person_{n}", rooms[n % 20], gateway=n // 20 % 2)
                for n in range(start, start + 20)
            )
            sockets += await asyncio.gather(*entering)
        for n, socket in enumerate(sockets):
            await socket.send("chat", content=f"@{BOTS[n % 9].id} question {n}")
        await eventually(lambda: _counted(node, mentions=200, replies=30), within=20)
        await eventually(lambda: _counted(node, refused_quota_day=170))
        said: list[str] = []
        for room in rooms:
            log = await log_of(node, room)
            assert set(answers(log).values()) <= {1}
            said += [each["content"] for each in log if "parrot: " in each["content"]]
        assert len(said) == len(set(said)) == 30
        today = time.strftime("%Y-%m-%d", time.gmtime())
        assert admin_valkey.get(keys.bots_quota(today)) == b"30"
        assert parrot.most <= thinking.AT_ONCE


async def test_what_was_spent_survives_crash_and_restart(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, parrot: Parrot
) -> None:
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", Placement("dedicated", 1, 1))
    room = new_room()

    async def spend(node: Node, count: int) -> None:
        al = await node.enter("user_1", room)
        for _ in range(count):
            await answered(al, await al.say(f"@{DJ.id} hello"), DJ)

    async with party(valkey_url, bot_quota_user="4") as node:
        await spend(node, 1)
        await node.kill(DIRECTOR)
        await spend(node, 1)
    async with party(valkey_url, bot_quota_user="4") as node:
        await spend(node, 1)
        await node.kill(DIRECTOR)
        await spend(node, 1)
        al = await node.enter("user_1", room)
        bo = await node.enter("user_2", room)
        await al.say(f"@{DJ.id} one more?")
        await eventually(lambda: _counted(node, replies=4, refused_quota_user=1))
        await answered(bo, await bo.say(f"@{DJ.id} but me?"), DJ)
        told = [
            e["content"] for e in await log_of(node, room) if "parrot: " in e["content"]
        ]
        assert len(told) == 5


# Trouble.


async def test_bots_come_back_with_valkey(parrot: Parrot) -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with party(storage.url) as node:
            watcher = await node.watch("user_1")
            await eventually(_sees(watcher, ALL))
            storage.kill()
            await asyncio.sleep(0.3)
            assert await shown(watcher) == ALL, "nobody knows better"
            storage.start()
            await storage.answers()
            room = new_room()
            al = await node.enter("user_2", room)
            echo = await al.say(f"@{DJ.id} what happened?")
            await answered(al, echo, DJ)
