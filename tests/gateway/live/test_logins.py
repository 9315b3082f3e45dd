"""Logins and their sockets, on two gateways: logout, expiry, refresh, use."""

import asyncio
from types import SimpleNamespace

import pytest

from cfmessenger.storage import keys
from gateway.live import logins
from tests.gateway.edge import data_of
from tests.gateway.node import (
    Node,
    Refused,
    error_of,
    eventually,
    exactly,
    live,
    new_room,
    upgrade,
)
from tests.patience import Stopwatch
from tests.wire_rows import wire


async def post(
    node: Node, path: str, token: str, gateway: int = 0
) -> dict[str, object]:
    async with node.gateways[gateway].client(token) as http:
        found: dict[str, object] = data_of(await http.post(path))
        return found


@wire("1 logout", "6 4501")
async def test_logout_closes_the_logins_sockets_everywhere(node: Node) -> None:
    room = new_room()
    doomed = [
        await node.enter("user_1", room, gateway=0),
        await node.enter("user_1", room, gateway=1),
        await node.watch("user_1", gateway=0),
        await node.watch("user_1", gateway=1),
    ]
    # The same user signed in a second time, and somebody else.
    second = await node.gateways[1].login("user_1")
    others = [
        await node.enter("user_1", room, gateway=1, token=second),
        await node.enter("user_2", room, gateway=1),
    ]
    started = Stopwatch()
    token = doomed[0].token
    assert await post(node, "/api/auth/logout", token) == {"success": True}
    assert [await each.closed() for each in doomed] == [4501] * 4
    assert started.seconds < 1.0
    for other in others:
        assert (await other.say(f"still here, {other.token[:4]}"))["seq"]
    with pytest.raises(Refused) as caught:
        await node.enter("user_1", room, token=token)
    assert error_of(caught.value) == (401, "AUTH_EXPIRED")


@wire("1 refresh", "1 logout", "6 4501")
async def test_a_refresh_keeps_the_sockets_and_the_login(node: Node) -> None:
    room = new_room()
    tabs = [await node.enter("user_1", room, gateway=g) for g in (0, 1)]
    fresh = await post(node, "/api/auth/refresh", tabs[0].token)
    token = str(fresh["sessionId"])
    with pytest.raises(Refused) as caught:
        await node.enter("user_1", room)
    assert error_of(caught.value) == (401, "AUTH_EXPIRED")
    # Both gateways look the login up under its new token.
    for gateway in (0, 1):
        node.hub(gateway)._logins._revalidated_at = 0.0
    tabs.append(await node.enter("user_1", room, token=token))
    for tab in tabs:
        assert (await tab.say(f"alive {tabs.index(tab)}"))["seq"]
    for gateway in (0, 1):
        seen = node.hub(gateway)._logins
        await eventually(lambda seen=seen: seen._revalidated_at)
    assert all(tab.open for tab in tabs)
    await post(node, "/api/auth/logout", token, gateway=1)
    assert [await tab.closed() for tab in tabs] == [4501] * 3


@wire("6 4500", "3 session_expiring")
async def test_a_session_that_nobody_uses_ends(valkey_url: str) -> None:
    async with live(valkey_url, 2, session_ttl="2") as node:
        room = new_room()
        tabs = [await node.enter("user_1", room, gateway=g) for g in (0, 1)]
        watcher = await node.watch("user_1")
        started = Stopwatch()
        for tab in (*tabs, watcher):
            warning = await tab.wait("session_expiring")
            exactly(warning, expiresAt=...)
            # Pings are no use of a session.
            await tab.send("ping")
            await tab.wait("pong")
        assert [await tab.closed() for tab in (*tabs, watcher)] == [4500] * 3
        assert started.wall > 1.0 and started.seconds < 4.5


@wire("6 4500", "3 session_expiring")
async def test_frames_on_one_gateway_keep_the_sockets_of_both(
    valkey_url: str,
) -> None:
    async with live(valkey_url, 2, session_ttl="2", chat_rate="0") as node:
        room = new_room()
        tabs = [await node.enter("user_1", room, gateway=g) for g in (0, 1)]
        first = await tabs[0].wait("session_expiring")
        end = asyncio.get_running_loop().time() + 2.5
        while asyncio.get_running_loop().time() < end:
            await tabs[0].send("typing", isTyping=False)
            await asyncio.sleep(0.3)
        assert all(tab.open for tab in tabs)
        for tab in tabs:
            # Prolonged, so warned of the new end.
            assert tab.of("session_expiring")[-1]["expiresAt"] > first["expiresAt"]


@wire("6 4501", "6 4500")
async def test_a_lost_word_is_found_at_the_next_look(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "REVALIDATE_EVERY_S", 0.5)
    tab = await node.enter("user_1", new_room(), gateway=1)
    services = node.gateways[1].services
    session = await services.sessions.get(tab.token)
    assert session is not None
    await services.kv.ask("DEL", keys.session(session.token_hash))
    assert await tab.closed() == 4500


async def test_a_login_is_forgotten_with_its_last_socket(node: Node) -> None:
    room = new_room()
    tabs = [await node.enter("user_1", room) for _ in range(2)]
    known = node.hub()._logins._logins
    [login_id] = known
    assert node.hub().connections._capacity._logins[login_id] == 2
    for tab in tabs:
        await tab.close()
    await eventually(lambda: not known)
    assert node.hub().connections._capacity._logins[login_id] == 0


class NoSessions:
    async def revalidate(self, sessions: object) -> dict[str, object]:
        return {}

    async def restore(self) -> None:
        pass


async def test_a_login_that_ends_twice_keeps_no_other_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = iter((1_000.0, 1_001.0, 1_015.0))
    monkeypatch.setattr(logins, "time", SimpleNamespace(monotonic=at.__next__))
    known = logins.Logins(NoSessions())  # type: ignore[arg-type]
    for login_id in ("first", "second", "first"):
        known.close(login_id, 4501, "logged out")
    await known.tick(0, 1_022.0)
    assert list(known._ended) == ["first"]


async def test_a_client_that_leaves_during_the_handshake_is_forgotten(
    node: Node,
) -> None:
    hub = node.hub()
    token = await node.token("user_1")
    served = asyncio.Event()
    serve = hub.serve

    async def noted(*args: object) -> None:
        try:
            await serve(*args)  # type: ignore[arg-type]
        finally:
            served.set()

    hub.serve = noted  # type: ignore[method-assign, assignment]
    try:
        # The room cannot be reached before the client has gone.
        async with node.namespace._making:
            port = node.gateways[0].port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(upgrade(f"/api/ws/room/{new_room()}", token))
            await eventually(
                lambda: any(s.life._handshakes for s in hub.stubs.by_name.values())
            )
            writer.transport.abort()
            await asyncio.sleep(0.05)
        await served.wait()
    finally:
        del hub.serve
    assert not hub.connections.by_id
    assert not hub._logins._logins


@wire("1 ticket", "1 presenting")
async def test_a_ticket_opens_one_socket(node: Node) -> None:
    room = new_room()
    token = await node.token("user_1")
    ticket = (await post(node, "/api/auth/ticket", token))["ticket"]
    from tests.gateway.node import dial

    port = node.gateways[1].port
    url = f"ws://127.0.0.1:{port}/api/ws/room/{room}?ticket={ticket}"
    client = await dial(url)
    with pytest.raises(Refused) as caught:
        await dial(url)
    assert error_of(caught.value) == (401, "AUTH_EXPIRED")
    # It stands for the login: its socket goes with it.
    await post(node, "/api/auth/logout", token)
    await client.wait_closed()
    assert client.close_code == 4501


@wire("1 presenting", "1 disagree", "1 AUTH")
async def test_subprotocols_and_tokens_that_disagree(node: Node) -> None:
    from tests.gateway.node import dial

    port = node.gateways[0].port
    url = f"ws://127.0.0.1:{port}/api/ws/room/{new_room()}"
    mine, other = await node.token("user_1"), await node.token("user_2")
    client = await dial(url, subprotocols=["cfm.v1", f"bearer.{mine}"])
    assert client.subprotocol == "cfm.v1"
    assert client.response is not None
    assert client.response.headers.get_all("Sec-WebSocket-Protocol") == ["cfm.v1"]
    await client.close()
    bearer = {"Authorization": f"Bearer {mine}"}
    for more in (
        {"additional_headers": bearer, "subprotocols": ["cfm.v1", f"bearer.{other}"]},
        {"additional_headers": bearer, "query": f"?sessionId={other}"},
        {"subprotocols": ["cfm.v1", f"bearer.{mine}"], "query": f"?sessionId={other}"},
    ):
        target = url + str(more.pop("query", ""))
        with pytest.raises(Refused) as caught:
            await dial(target, **more)
        assert error_of(caught.value) == (401, "AUTH_EXPIRED")
