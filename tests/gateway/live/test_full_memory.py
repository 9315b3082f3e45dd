"""When Valkey's memory is nearly full: what is refused, what goes on, who is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import valkey

from cfmessenger.storage.reserve import ALERT, FULL
from tests.cfmessenger.storage.test_reserve import Small
from tests.conftest import own_valkey
from tests.gateway.node import Node, eventually, live, new_room


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.sockets.CHECK_EVERY_S", 0.05)


@asynccontextmanager
async def messenger() -> AsyncIterator[tuple[Node, Small]]:
    with own_valkey() as socket:
        small = Small(socket)
        async with live(small.url, login_rate="0") as node:
            yield node, small
        small.admin.close()


async def until(node: Node, small: Small, share: float) -> None:
    """So much is used, and the gateway knows."""
    small.used(share)
    reserve = node.hub()._readiness.reserve
    await eventually(lambda: abs(reserve.share - share) < 0.01)


async def test_messages_are_refused_and_logins_reads_and_logouts_go_on() -> None:
    async with messenger() as (node, small):
        room = new_room()
        sender = await node.enter("user_1", room)
        await sender.say("before", id="c0")
        await until(node, small, FULL + 0.01)
        await sender.send("chat", content="more", id="c1")
        error = await sender.wait("error", within=1.0)  # at once, not after 5 s
        assert (error["code"], error["id"]) == ("STORAGE_UNAVAILABLE", "c1")
        assert error["retryable"] is True
        await sender.send("typing", isTyping=True)
        await sender.send("ping", t=1)
        await sender.wait("pong")
        # Somebody comes, reads what there is, is seen, and goes.
        async with node.gateways[0].client() as http:
            body = {"userId": "user_2", "token": "x"}
            answer = await http.post("/api/auth/login", json=body)
            assert answer.status_code == 200, answer.text
            token = answer.json()["data"]["sessionId"]
            head = {"Authorization": f"Bearer {token}"}
            page = await http.get(f"/api/rooms/{room}/messages", headers=head)
            said = [each["content"] for each in page.json()["data"]["messages"]]
            assert "before" in said
            reader = await node.enter("user_2", room)
            assert "before" in [
                each["content"] for each in reader.of("history")[0]["messages"]
            ]
            fresh = await http.post("/api/auth/refresh", headers=head)
            assert fresh.status_code == 200
            head = {"Authorization": f"Bearer {fresh.json()['data']['sessionId']}"}
            assert (
                await http.post("/api/auth/logout", headers=head)
            ).status_code == 200
            assert (await http.get("/api/auth/me", headers=head)).status_code == 401
        # There is memory again: the same id is said once.
        await until(node, small, 0.5)
        await sender.send("chat", content="more", id="c1")
        await sender.wait("chat", id="c1")
        assert [e["id"] for e in sender.of("chat")] == ["c0", "c1"]


async def test_without_the_reserve_a_login_would_be_refused_too() -> None:
    """Which is why there is one."""
    async with messenger() as (node, small):
        small.used(1.01)
        with pytest.raises(valkey.OutOfMemoryError):
            small.admin.hset("cfm:session:x", "a", "1")
        small.used(FULL + 0.01)
        small.admin.hset("cfm:session:x", "a", "1")


async def test_who_runs_it_is_told_before_it_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with messenger() as (node, small):
        await until(node, small, ALERT + 0.01)
        async with node.gateways[0].client() as http:
            ready = await http.get("/readyz")
            assert ready.status_code == 200
            assert ready.text.splitlines()[-1] == "degraded: memory"
            told = (await http.get("/metrics")).text
            [line] = [x for x in told.splitlines() if x.startswith("cfm_storage_mem")]
            assert 0.79 < float(line.split()[1]) < 0.83
            assert "of Valkey's memory is used" in caplog.text
            sender = await node.enter("user_1", new_room())
            await sender.say("there is room for this")
            await until(node, small, 0.5)
            assert "degraded" not in (await http.get("/readyz")).text
