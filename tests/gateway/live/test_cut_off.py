"""Who is cut off, by the rule alone; and gateways whose lines to others end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.namespace_server import NamespaceServer
from cfmessenger.asgi import build
from cfmessenger.errors import Unavailable
from cfmessenger.link import calls
from cfmessenger.link.namespace import Namespace, NamespaceClient
from gateway import metrics
from gateway.live.cut_off import CutOff, Seen
from tests.gateway.edge import serving, settings_for
from tests.gateway.node import Node, Refused, error_of, eventually, new_room
from tests.valkey_proxy import Proxy, proxied
from tests.wire_rows import wire

AFTER_S = 8.0

ALL_THERE = Seen(None, None, False, False, False)
NO_NAMESPACE = ALL_THERE._replace(namespace_lost=100.0)
NO_STORAGE = ALL_THERE._replace(storage_lost=100.0, stored=True)


def looks(*seen: tuple[float, Seen], after_s: float = AFTER_S) -> list[bool]:
    rule = CutOff(after_s)
    return [rule.look(now, each) for now, each in seen]


def every_second(seen: Seen, until: int, since: int = 101) -> list[tuple[float, Seen]]:
    return [(float(now), seen) for now in range(since, until)]


def test_who_alone_lacks_something_is_cut_off_in_time_and_until_it_is_there() -> None:
    for lacking in (NO_NAMESPACE, NO_STORAGE):
        found = looks(*every_second(lacking, 110), (110.0, ALL_THERE))
        assert found == [False] * 7 + [True] * 2 + [False]


def test_without_a_time_nobody_is() -> None:
    assert not any(looks(*every_second(NO_NAMESPACE, 999), after_s=0.0))


def test_what_all_lack_cuts_nobody_off() -> None:
    for alike in (
        NO_NAMESPACE._replace(shared=True),
        NO_NAMESPACE._replace(alone=True),
        NO_STORAGE._replace(stored=False),
        NO_STORAGE._replace(alone=True),
    ):
        assert not any(looks(*every_second(alike, 200)))


def test_who_is_late_when_something_comes_back_for_all_gets_its_time() -> None:
    away = NO_STORAGE._replace(stored=False)
    found = looks(*every_second(away, 120), *every_second(NO_STORAGE, 129, since=120))
    assert found == [False] * 26 + [True] * 2
    shared = NO_NAMESPACE._replace(shared=True)
    later = every_second(NO_NAMESPACE, 129, since=120)
    assert looks(*every_second(shared, 120), *later) == found


def test_one_loss_after_the_other_is_one_time() -> None:
    both = NO_NAMESPACE._replace(storage_lost=101.0, stored=False)
    found = looks(*every_second(both, 105), *every_second(NO_STORAGE, 110, since=105))
    assert found == [False] * 7 + [True] * 2


def test_who_did_not_run_for_a_while_looks_again_first() -> None:
    assert (
        looks((100.0, ALL_THERE), (130.0, NO_NAMESPACE), (131.0, ALL_THERE))
        == [False] * 3
    )
    assert looks((130.0, NO_NAMESPACE), (131.0, NO_NAMESPACE)) == [False, True]


# Gateways that run: the second one's lines lead through a proxy.

CUT_OFF_S = 0.4
PATIENCE_S = 20.0
WELL, CUT = 0, 1


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.live.sockets.CHECK_EVERY_S", 0.05)
    monkeypatch.setattr(calls, "CONNECT_TIMEOUT_S", 0.2)


class Cluster(LocalNamespace):
    """Behind a server; its Ray may be away."""

    away = False

    async def ping(self) -> bool:
        if self.away:
            raise Unavailable(message="Ray is away.")
        return True

    async def wakes(self) -> None:
        await self.ping()


class Pair(Node):
    """Two gateways; `names` leads to the namespace server, `storage` to Valkey."""

    names: Proxy
    storage: Proxy

    async def readyz(self, gateway: int) -> tuple[int, str]:
        async with self.gateways[gateway].client() as http:
            answer = await http.get("/readyz")
        return answer.status_code, answer.text.splitlines()[-1]

    async def says(self, gateway: int, status: int, line: str = "wake ok") -> None:
        async def so() -> bool:
            return await self.readyz(gateway) == (status, line)

        await eventually(so, within=PATIENCE_S, what=line)


def stop_forwarding(proxy: Proxy) -> None:
    """Nothing passes, in either direction; connections stay."""
    proxy.stall()
    proxy.hold_requests()


@asynccontextmanager
async def pair(valkey_url: str, both: bool = False) -> AsyncIterator[Pair]:
    """`both`: the first one, too, reaches the namespace through the proxy alone."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cfm-cut-"))
        names_at = f"unix:{Path(folder, 'ns')}"
        names = await stack.enter_async_context(proxied(names_at))
        storage = await stack.enter_async_context(proxied(valkey_url))
        more = {"open_rooms": "1", "new_room_rate": "0", "cut_off_s": str(CUT_OFF_S)}
        backend = Cluster(HostSettings.of(settings_for(valkey_url)))
        server = NamespaceServer(backend, names_at)
        await server.start()
        stack.push_async_callback(server.close)
        stack.push_async_callback(backend.close)
        running = []
        for number in (WELL, CUT):
            through = both or number == CUT
            url = storage.url if number == CUT else valkey_url
            own = str(Path(folder, str(number)))
            chosen = settings_for(url, data_dir=own, hot_share="0", **more)
            client: Namespace = backend
            if through:
                client = NamespaceClient(names.url, ping_every_s=0.05)
                stack.push_async_callback(client.close)
            app = build(chosen, client)
            running.append(await stack.enter_async_context(serving(app, chosen)))
        async with AsyncExitStack() as opened:
            made = Pair(valkey_url, backend, running, opened)
            made.names, made.storage = names, storage
            for number in (WELL, CUT):
                await made.says(number, 200)
            yield made
            names.flow()
            storage.flow()


def cut_off() -> float:
    [family] = metrics.CUT_OFF.collect()
    return family.samples[0].value


@wire("1 operation")
async def test_who_alone_reaches_no_namespace_server_lets_its_sockets_go(
    empty_valkey: str,
) -> None:
    async with pair(empty_valkey) as both:
        room = new_room()
        here = await both.enter("user_1", room, gateway=CUT)
        there = await both.enter("user_2", room, gateway=WELL)
        stop_forwarding(both.names)
        assert await here.closed(PATIENCE_S) == 1012
        await both.says(CUT, 503, "cut off: ray, wake")
        assert cut_off() == 1
        with pytest.raises(Refused) as refused:
            await both.connect("user_1", f"/api/ws/room/{room}", gateway=CUT)
        assert error_of(refused.value) == (503, "AT_CAPACITY")
        await there.say("I am served")
        assert await both.readyz(WELL) == (200, "wake ok")

        both.names.flow()
        await both.says(CUT, 200)
        assert cut_off() == 0
        again = await both.enter("user_1", room, gateway=CUT)
        await again.say("and so am I")


@wire("1 operation")
async def test_who_alone_reaches_no_storage_lets_its_sockets_go(
    empty_valkey: str,
) -> None:
    async with pair(empty_valkey) as both:
        room = new_room()
        here = await both.enter("user_1", room, gateway=CUT)
        there = await both.enter("user_2", room, gateway=WELL)
        stop_forwarding(both.storage)
        assert await here.closed(PATIENCE_S) == 1012
        await both.says(CUT, 503, "cut off: valkey")
        assert there.open
        both.storage.flow()
        await both.says(CUT, 200)
        await (await both.enter("user_1", room, gateway=CUT)).say("back")


@wire("1 operation")
async def test_a_namespace_that_is_away_for_all_costs_nobody_a_socket(
    empty_valkey: str,
) -> None:
    async with pair(empty_valkey, both=True) as all_of_us:
        room = new_room()
        here = await all_of_us.enter("user_1", room, gateway=CUT)
        there = await all_of_us.enter("user_2", room, gateway=WELL)
        stop_forwarding(all_of_us.names)
        for number in (WELL, CUT):
            await all_of_us.says(number, 200, "degraded: ray, wake")
        names = all_of_us.hub(CUT)._namespace
        loop = asyncio.get_running_loop()

        def for_long() -> bool:
            since = names.unreachable_since
            return since is not None and loop.time() - since > 3 * CUT_OFF_S

        await eventually(for_long)
        for number in (WELL, CUT):
            await all_of_us.says(number, 200, "degraded: ray, wake")
        await here.say("the room is awake")
        assert there.open and not cut_off()


@wire("1 operation")
async def test_a_ray_that_is_away_leaves_all_ready_and_degraded(
    empty_valkey: str,
) -> None:
    async with pair(empty_valkey, both=True) as all_of_us:
        room = new_room()
        here = await all_of_us.enter("user_1", room, gateway=CUT)
        assert isinstance(all_of_us.namespace, Cluster)
        all_of_us.namespace.away = True
        for number in (WELL, CUT):
            await all_of_us.says(number, 200, "degraded: ray, wake")
        await here.say("awake rooms go on")
        assert not cut_off()
        all_of_us.namespace.away = False
        for number in (WELL, CUT):
            await all_of_us.says(number, 200)
