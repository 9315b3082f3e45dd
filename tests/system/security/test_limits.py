"""L-1: a rate belongs to a user, and nothing that a user can do makes it two."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import valkey

from cfmessenger.storage import keys
from tests.gateway.edge import refused
from tests.gateway.node import Node, Socket, dial, live, new_room

RATE, TRIES = 5, 8
Tab = Callable[[int], Awaitable[Socket]]


@pytest.fixture(scope="module")
async def pair(valkey_url: str) -> AsyncIterator[Node]:
    settings = {"chat_rate": f"{RATE}/600", "nudge_rate": "3/600"}
    async with live(valkey_url, 2, hibernate_after="0.2", **settings) as node:
        yield node


@pytest.fixture
async def node(pair: Node) -> AsyncIterator[Node]:
    async with pair.visit() as own:
        yield own


class Ways:
    """Attempts to be somebody else for the rate; each gives the n-th tab to use."""

    def __init__(self, node: Node, room: str) -> None:
        self.node = node
        self.room = room
        self.tabs: list[Socket] = []

    async def _open(self, gateway: int = 0, token: str | None = None) -> Socket:
        tab = await self.node.enter("user_1", self.room, gateway=gateway, token=token)
        self.tabs.append(tab)
        return tab

    async def one_tab(self, n: int) -> Socket:
        return self.tabs[0] if self.tabs else await self._open()

    async def five_tabs(self, n: int) -> Socket:
        return await self._open() if n < 5 else self.tabs[n % 5]

    async def two_gateways(self, n: int) -> Socket:
        return await self._open(n) if n < 2 else self.tabs[n % 2]

    async def a_connection_for_each_message(self, n: int) -> Socket:
        if self.tabs:
            await self.tabs[-1].close()
        return await self._open(n % 2)

    async def a_session_for_each_message(self, n: int) -> Socket:
        return await self._open(n % 2, await self.node.gateways[0].login("user_1"))

    async def a_refreshed_session(self, n: int) -> Socket:
        token = await self.node.gateways[0].login("user_1")
        fresh = await self.node.gateways[0].services.sessions.refresh(token)
        assert fresh is not None
        return await self._open(0, fresh[0])

    async def another_address(self, n: int) -> Socket:
        token = await self.node.token("user_1")
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Forwarded-For": f"198.51.100.{n + 1}",
            "X-Real-IP": f"198.51.100.{n + 1}",
            "Forwarded": f"for=198.51.100.{n + 1}",
        }
        port = self.node.gateways[n % 2].port
        url = f"ws://127.0.0.1:{port}/api/ws/room/{self.room}?userId=user_{n + 2}"
        tab = Socket(await dial(url, additional_headers=headers), "user_1", token)
        self.tabs.append(tab)
        return tab

    async def after_sleep(self, n: int) -> Socket:
        if n in (2, RATE):
            await self.node.asleep(f"room:{self.room}")
        return await self.one_tab(n)

    async def after_sleep_without_sockets(self, n: int) -> Socket:
        if n in (2, RATE):
            await self.tabs[-1].close()
            await self.node.asleep(f"room:{self.room}")
            return await self._open()
        return self.tabs[-1] if self.tabs else await self._open()

    async def after_a_kill(self, n: int) -> Socket:
        if n in (2, RATE):
            await self.node.kill(f"room:{self.room}")
        return await self.one_tab(n)

    async def by_the_other_name_of_the_room(self, n: int) -> Socket:
        if n < 2:
            name = ("dm_user_1__user_9", "dm_user_9__user_1")[n]
            self.tabs.append(await self.node.enter("user_1", name))
        return self.tabs[n % 2]


WAYS = sorted(name for name in vars(Ways) if not name.startswith("_"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["chat", "nudge"])
async def test_l1_nothing_makes_it_more(node: Node, way: str, kind: str) -> None:
    limit = {"chat": RATE, "nudge": 3}[kind]
    ways = Ways(node, new_room())
    if "other_name" in way:
        # The room is the same for both kinds, and so would be another's rest of it.
        ways.room = "dm_user_1__user_9"
    tab: Tab = getattr(ways, way)
    answers = []
    for n in range(TRIES):
        socket = await tab(n)
        fields = {"content": f"try {n}"} if kind == "chat" else {}
        await socket.send(kind, id=f"{way[:20]}-{kind}-{n}", **fields)
        answer = await socket.wait(
            where=lambda f, n=n: (  # type: ignore[misc]
                str(f.get("id", "")).endswith(f"-{kind}-{n}")
            )
        )
        answers.append(answer.get("code", answer["type"]))
    assert answers == [kind] * limit + ["RATE_LIMITED"] * (TRIES - limit)


async def test_l1_all_at_once(node: Node) -> None:
    """Forty messages at one moment from ten tabs of ten sessions on two gateways."""
    room = new_room()
    tabs = [
        await node.enter(
            "user_1", room, gateway=n % 2, token=await node.gateways[0].login("user_1")
        )
        for n in range(10)
    ]
    witness = await node.enter("user_2", room)
    await asyncio.gather(
        *(tab.send("chat", content="x") for tab in tabs for _ in range(4))
    )
    for tab in tabs:
        await tab.send("ping", t=7)
        await tab.wait("pong")
    said = (await witness.say("how many were there?"))["seq"]
    assert said == RATE + 1


async def test_l2_a_forged_address_is_no_other_visitor(valkey_url: str) -> None:
    """Whoever is not behind a proxy of ours logs in five times, whatever it claims."""
    async with live(valkey_url, 2, trusted_proxies="192.0.2.0/24") as node:
        statuses = []
        for n in range(7):
            async with node.gateways[n % 2].client() as http:
                forged = f"198.51.100.{n}"
                answer = await http.post(
                    "/api/auth/login",
                    json={"userId": f"user_{n + 1}", "token": "any"},
                    headers={"X-Forwarded-For": forged, "X-Real-IP": forged},
                )
            statuses.append(answer.status_code)
        assert statuses == [200] * 5 + [429] * 2
        refused(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["Retry-After"]) >= 1


KEPT = re.compile(
    r"cfm:(?:\{[^}]+\}:(?:log|mirror|hint|reads)|user_rooms:.+|gateways|placement"
    r"|bots:active|config:bot_enabled|damage)"
)


async def test_l5_whatever_is_not_the_record_goes_by_itself(
    empty_valkey: str, admin_valkey: valkey.Valkey
) -> None:
    async with live(empty_valkey, hibernate_after="0.2") as node:
        services = node.gateways[0].services
        async with node.gateways[0].client() as http:
            body = {"userId": "user_1", "token": "any"}
            await http.post("/api/auth/login", json=body)
        tab = await node.enter("user_1", "dm_user_1__user_2")
        await node.watch("user_2")
        await tab.say("hello")
        session = await services.sessions.get(tab.token)
        assert session is not None
        await services.tickets.draw(session)
        names = [name.decode() for name in admin_valkey.keys("*")]
        kinds = {name.split(":")[1] for name in names}
        assert {"session", "logins", "ticket", "login", "presence"} <= kinds
        for name in names:
            assert name.startswith("cfm:")
            if KEPT.fullmatch(name):
                assert not name.startswith("cfm:session")
                continue
            left = admin_valkey.pttl(name)
            if left == -1:  # a hash whose every field has its own end
                fields = admin_valkey.hkeys(name)
                ends = admin_valkey.execute_command(
                    "HPTTL", name, "FIELDS", len(fields), *fields
                )
                left = min(ends)
            assert 0 < left <= 13 * 3600 * 1000, name
    assert keys.session("x").startswith("cfm:session:")
