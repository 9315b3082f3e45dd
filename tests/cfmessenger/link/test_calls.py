"""Which namespace server is asked, and what becomes of a call when it goes away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.link import calls
from cfmessenger.link.calls import Find
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.link.secured import open_stream
from tests import patience
from tests.cfmessenger.link.scripted_server import Asked, Script, answer, scripted
from tests.gateway.node import eventually

NOBODY = "tcp://127.0.0.1:1"
SOON_S = 0.05


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CONNECT_TIMEOUT_S", 0.3)


@asynccontextmanager
async def client(find: Find | Sequence[str]) -> AsyncIterator[NamespaceClient]:
    made = NamespaceClient(find, "secret", ping_every_s=SOON_S)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[tuple[list[Script], list[str]]]:
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(scripted()) for _ in range(count)]
        yield [script for script, _ in found], [url for _, url in found]


async def asked(script: Script) -> Asked:
    return await patience.wait_for(script.requests.get(), 5)


async def answered(script: Script, call: asyncio.Task[bool]) -> None:
    """The call is under way at this server; let it end."""
    request, writer = await asked(script)
    writer.write(answer(request, True))
    assert await patience.wait_for(call, 5) is True


async def test_a_server_that_leaves_fails_no_call_when_there_is_another() -> None:
    async with servers(2) as ((one, two), urls), client(urls) as names:
        under_way = [asyncio.create_task(names.ping()) for _ in range(3)]
        for _ in under_way:
            await asked(one)
        one.stop()
        for call in under_way:
            await answered(two, call)
        await answered(two, asyncio.create_task(names.ping()))
        assert (len(one.writers), len(two.writers)) == (1, 1)


async def test_a_server_that_falls_silent_is_left_and_its_calls_are_asked_again() -> (
    None
):
    async with servers(2) as ((one, two), urls), client(urls) as names:
        call = asyncio.create_task(names.ping())
        await asked(one)
        one.alive = False
        await answered(two, call)


async def test_a_slow_answer_is_no_silence() -> None:
    async with servers(2) as ((one, two), urls), client(urls) as names:
        call = asyncio.create_task(names.placement())
        request, writer = await asked(one)
        await eventually(lambda: one.signs > 2 * calls.MOST_UNANSWERED)
        writer.write(answer(request, {}))
        await call
        assert not two.writers


@pytest.mark.parametrize("why", ["refused", "silent", "hung up", "unknown host"])
async def test_who_cannot_be_reached_is_passed_over(why: str) -> None:
    async with servers(2) as ((one, two), urls):
        one.alive = why != "silent"
        if why == "hung up":
            for_nobody = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1")
            urls[0] = f"tcp://127.0.0.1:{for_nobody.sockets[0].getsockname()[1]}"
        elif why == "refused":
            urls[0] = NOBODY
        elif why == "unknown host":
            urls[0] = "tcp://nowhere.invalid:6390"
        async with client(urls) as names:
            await answered(two, asyncio.create_task(names.ping()))
            assert not one.calls
        if why == "hung up":
            for_nobody.close()


async def test_a_crowd_dials_once() -> None:
    async with servers(1) as ([one], urls), client([NOBODY, *urls]) as names:
        crowd = [asyncio.create_task(names.ping()) for _ in range(50)]
        for call in crowd:
            await answered(one, call)
        assert len(one.writers) == 1


async def test_where_servers_are_is_asked_at_each_dial_and_remembered() -> None:
    async with servers(2) as ((one, two), urls):
        there: list[str] | None = urls[:1]

        async def find() -> Sequence[str]:
            if there is None:
                raise Unavailable(message="Nobody can say.")
            return there

        async with client(find) as names:
            await answered(one, asyncio.create_task(names.ping()))
            there = urls[1:]
            call = asyncio.create_task(names.ping())
            await asked(one)
            one.stop()
            await answered(two, call)
            there = None
            two.writers[0].close()
            await answered(two, asyncio.create_task(names.ping()))


async def test_it_says_since_when_nobody_answers() -> None:
    loop = asyncio.get_running_loop()
    async with servers(1) as ([one], urls), client(urls) as names:
        assert names.unreachable_since is None, "nobody was asked"
        await answered(one, asyncio.create_task(names.ping()))
        assert names.unreachable_since is None
        heard = loop.time()
        one.stop()
        with pytest.raises(Unavailable):
            await names.ping()
        since = names.unreachable_since
        assert since is not None and since <= heard + 1
        with pytest.raises(Unavailable):
            await names.ping()
        assert names.unreachable_since == since, "a vain attempt changes nothing"
        await one.start(urls[0])
        await answered(one, asyncio.create_task(names.ping()))
        assert names.unreachable_since is None


async def test_a_silent_server_makes_it_unreachable_though_nobody_asks() -> None:
    async with servers(1) as ([one], urls), client(urls) as names:
        await answered(one, asyncio.create_task(names.ping()))
        one.alive = False
        await eventually(lambda: names.unreachable_since is not None)


async def test_who_was_never_reached_is_unreachable_from_the_first_call_on() -> None:
    async with client(NOBODY) as names:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await names.ping()
        assert (names.unreachable_since or 0.0) >= began


async def test_a_call_that_ends_its_connection_each_time_is_given_up() -> None:
    async with servers(1) as ([one], urls), client(urls) as names:
        one.hangs_up = True
        with pytest.raises(Unavailable):
            await names.ping()
        assert one.calls == calls.TRIES


async def test_a_server_that_does_not_know_the_sign_of_life_is_alive() -> None:
    async with servers(1) as ([one], urls), client(urls) as names:
        one.old = True
        await answered(one, asyncio.create_task(names.ping()))


async def test_calls_under_way_are_bounded_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MOST_CALLS", 3)
    async with servers(1) as ([one], urls), client(urls) as names:
        crowd = [asyncio.create_task(names.placement()) for _ in range(10)]
        first = [await asked(one) for _ in range(3)]
        await asyncio.sleep(0)
        assert one.requests.empty()
        for request, writer in first:
            writer.write(answer(request, {}))
        for _ in range(7):
            request, writer = await asked(one)
            writer.write(answer(request, {}))
        await asyncio.gather(*crowd)


async def test_who_is_closed_dials_no_more() -> None:
    async with servers(1) as ([one], urls):
        one.alive = False
        async with client(urls) as names:
            dialling = asyncio.create_task(names.ping())
            await eventually(lambda: one.writers)
            await names.close()
            for call in (dialling, names.ping()):
                with pytest.raises(Unavailable):
                    await call


async def test_an_address_must_lead_somewhere() -> None:
    with pytest.raises(OSError):
        await open_stream(NOBODY)
