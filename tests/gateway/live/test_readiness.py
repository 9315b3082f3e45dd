"""`/readyz` of two gateways: what is one's own trouble, and what is everybody's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from cfmessenger.asgi import build
from cfmessenger.errors import Unavailable
from gateway.live.readiness import Others, Readiness, Ready, judge
from tests.gateway.edge import Gateway, serving, settings_for
from tests.gateway.node import eventually, own_valkey
from tests.postgresql import PostgreSQL
from tests.wire_rows import wire

ALL = ("accepting", "links", "ray", "sql", "valkey", "wake")
PATIENCE_S = 30.0  # it takes 1 s; a busy machine may take longer


class Nodes(LocalNamespace):
    """A node whose namespace may say that nothing wakes, or not answer at all."""

    why_not = ""
    away = False

    async def ping(self) -> bool:
        if self.away:
            raise Unavailable
        return True

    async def wakes(self) -> None:
        if self.why_not or self.away:
            raise Unavailable(message=self.why_not)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.sockets.CHECK_EVERY_S", 0.05)
    monkeypatch.setattr("gateway.live.readiness.SQL_EVERY", 1)


@asynccontextmanager
async def gateways(
    valkey_url: str, *databases: str
) -> AsyncIterator[list[tuple[Gateway, Nodes]]]:
    """Each on a node of its own, with this database (empty: SQLite of its own)."""
    async with AsyncExitStack() as stack:
        found = []
        for url in databases:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cfm-r-"))
            more = {"database_url": url} if url else {}
            chosen = settings_for(valkey_url, data_dir=folder, **more)
            node = Nodes(HostSettings.of(chosen))
            stack.push_async_callback(node.close)
            app = build(chosen, node)
            found.append((await stack.enter_async_context(serving(app, chosen)), node))
        for each, _ in found:
            await answers(each, 200)
        yield found


async def readyz(gateway: Gateway) -> tuple[int, dict[str, str]]:
    """The status, and the lines by name."""
    async with gateway.client() as http:
        answer = await http.get("/readyz")
    lines = [line.replace(":", "") for line in answer.text.splitlines()]
    return answer.status_code, dict(line.split(" ", 1) for line in lines)


async def answers(
    gateway: Gateway, status: int, *down: str, degraded: str = ""
) -> None:
    """It will say so, with exactly these parts down."""
    expected = {name: "down" if name in down else "ok" for name in ALL}
    if degraded:
        expected["degraded"] = degraded
    seen: tuple[int, dict[str, str]] | None = None

    async def so() -> bool:
        nonlocal seen
        seen = await readyz(gateway)
        return seen == (status, expected)

    try:
        await eventually(so, within=PATIENCE_S)
    except TimeoutError:
        raise AssertionError(
            f"{(status, expected)} was never said, but {seen}"
        ) from None


# The rule, by itself.

LACK = frozenset


@pytest.mark.parametrize(
    ("down", "others", "ok", "degraded"),
    [
        ("", {}, True, ""),
        ("", {"b": LACK({"wake"})}, True, ""),
        ("", None, True, ""),
        # The only one there is.
        ("wake", {}, False, ""),
        ("ray wake", {}, False, ""),
        ("links", {}, False, ""),
        ("links", {"b": LACK()}, False, ""),
        ("links", {"b": LACK({"links"})}, True, "links"),
        ("valkey", {}, False, ""),
        ("sql", {}, True, "sql"),
        ("sql wake", {}, False, ""),
        # Another could.
        ("wake", {"b": LACK()}, False, ""),
        ("sql", {"b": LACK()}, False, ""),
        ("sql", {"b": LACK({"sql"}), "c": LACK()}, False, ""),
        ("sql wake", {"b": LACK({"wake"})}, False, ""),
        # Nobody could; the last of them cannot even say so.
        ("wake", {"b": LACK({"wake"})}, True, "wake"),
        ("wake", {"b": LACK({"wake", "sql"}), "c": LACK({"wake"})}, True, "wake"),
        ("valkey wake", {"b": None}, True, "valkey wake"),
        # Without Ray nothing wakes there either, though it has not been found out.
        ("ray wake", {"b": LACK({"ray"})}, True, "ray wake"),
        # Nobody can know.
        ("valkey", None, False, ""),
        # Who leaves leaves, whatever the others do.
        ("accepting", {}, False, ""),
        ("accepting wake", {"b": LACK({"wake"})}, False, ""),
    ],
)
def test_one_answers_no_for_itself_alone(
    down: str, others: Others | None, ok: bool, degraded: str
) -> None:
    parts: Mapping[str, bool] = {name: name not in down.split() for name in ALL}
    assert judge(parts, others) == Ready(ok, parts, tuple(degraded.split()))


# Gateways that run.


@wire("1 operation")
async def test_a_single_gateway_is_ready_as_long_as_rooms_wake(
    empty_valkey: str,
) -> None:
    async with gateways(empty_valkey, "") as [(one, node)]:
        node.why_not = "no socket"
        await answers(one, 503, "wake")
        node.why_not = ""
        await answers(one, 200)
        node.away = True
        await answers(one, 503, "ray", "wake")
        node.away = False
        await answers(one, 200)
        one.hub.refuse_new()
        await answers(one, 503, "accepting")


@wire("1 operation")
async def test_who_alone_cannot_wake_rooms_is_taken_out_and_comes_back(
    empty_valkey: str,
) -> None:
    async with gateways(empty_valkey, "", "") as [(one, here), (two, there)]:
        here.why_not = "no socket"
        await answers(one, 503, "wake")
        await answers(two, 200)
        there.why_not = "no socket either"
        await answers(one, 200, "wake", degraded="wake")
        await answers(two, 200, "wake", degraded="wake")
        here.why_not = ""
        await answers(one, 200)
        await answers(two, 503, "wake")


@wire("1 operation")
async def test_a_database_that_one_cannot_reach(
    empty_valkey: str, postgresql: PostgreSQL
) -> None:
    async with gateways(empty_valkey, postgresql.database(), "") as [
        (one, _),
        (two, _),
    ]:
        postgresql.stop()
        try:
            await answers(one, 503, "sql")
            await answers(two, 200)
        finally:
            postgresql.run()
        await answers(one, 200)


@wire("1 operation")
async def test_a_database_that_nobody_can_reach(
    empty_valkey: str, postgresql: PostgreSQL
) -> None:
    url = postgresql.database()
    async with gateways(empty_valkey, url, url) as [(one, _), (two, _)]:
        postgresql.stop()
        try:
            await answers(one, 200, "sql", degraded="sql")
            await answers(two, 200, "sql", degraded="sql")
        finally:
            postgresql.run()
        await answers(one, 200)


@wire("1 operation")
@pytest.mark.parametrize("count", [1, 2])
async def test_a_valkey_that_refuses_writes(count: int) -> None:
    """It answers pings, and no room could take a message: only the rule for one or
    for all tells them apart. A replica is left, and then nobody can be asked."""
    with own_valkey() as storage:
        await storage.answers()
        async with gateways(storage.url, *[""] * count) as found:
            for setting, value, back in [("maxmemory", 1, 0), ("replicaof", 0, 1)]:
                with storage.admin() as client:
                    if setting == "maxmemory":
                        client.config_set(setting, value)
                    else:
                        client.replicaof("127.0.0.1", "1")
                for each, _ in found:
                    if count == 1 or setting == "replicaof":
                        await answers(each, 503, "valkey")
                    else:
                        told = "memory, valkey"
                        await answers(each, 200, "valkey", degraded=told)
                with storage.admin() as client:
                    if setting == "maxmemory":
                        client.config_set(setting, back)
                    else:
                        client.replicaof("NO", "ONE")
                for each, _ in found:
                    await answers(each, 200)


@wire("1 operation")
async def test_without_valkey_nobody_knows_what_the_others_can() -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with gateways(storage.url, "", "") as [(one, _), (two, _)]:
            storage.kill()
            await answers(one, 503, "valkey")
            await answers(two, 503, "valkey")
            storage.start()
            await storage.answers()
            await answers(one, 200)
            await answers(two, 200)


async def test_who_lacks_nothing_leaves_nothing_and_what_is_said_runs_out(
    empty_valkey: str,
) -> None:
    async with gateways(empty_valkey, "", "") as [(one, node), (two, _)]:
        kv = two.services.kv
        assert not await kv.ask("EXISTS", "cfm:gateways:lacking")
        node.why_not = "no socket"
        await answers(one, 503, "wake")
        name = one.hub.gateway
        ask = ("HPTTL", "cfm:gateways:lacking", "FIELDS", 1, name)
        [left] = await kv.ask(*ask)
        assert 0 < left <= 5000
        node.why_not = ""
        await answers(one, 200)

        async def taken_back() -> bool:
            return not await kv.ask("EXISTS", "cfm:gateways:lacking")

        await eventually(taken_back)


async def test_who_refuses_links_is_told_to_people_and_not_taken_for_a_part(
    empty_valkey: str,
) -> None:
    async with gateways(empty_valkey, "") as [(one, node)]:
        kv, log, name = one.services.kv, one.hub.log, one.hub.gateway
        found = Readiness(kv, log, node, None)
        why = "it speaks versions 7 to 8 of the link, this end versions 5 to 6"
        await found.check(name, why)
        assert not found.ready(True).ok
        assert not found.ready(True).parts["links"]
        [said] = await kv.ask("HMGET", "cfm:gateways:lacking", name)
        assert said.decode() == f"links; {why}"
        assert await found._ask() == {name: frozenset({"links"})}
        await found.check(name)
        assert found.ready(True) == Ready(True, dict.fromkeys(PARTS, True))


PARTS = ("links", "ray", "valkey", "wake", "accepting")


async def test_the_answer_is_the_same_while_it_is_found_out_again(
    empty_valkey: str,
) -> None:
    async def away() -> None:
        raise Unavailable

    async with gateways(empty_valkey, "") as [(one, node)]:
        kv, log, name = one.services.kv, one.hub.log, one.hub.gateway
        found = Readiness(kv, log, node, away)
        await found.check(name)
        assert found.ready(True).degraded == ("sql",)
        again = asyncio.create_task(found.check(name))
        while not again.done():
            assert found.ready(True).degraded == ("sql",)
            await asyncio.sleep(0)
