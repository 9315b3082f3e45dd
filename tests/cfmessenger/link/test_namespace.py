"""The namespace's client, against a server whose answers the test writes itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.link import namespace
from cfmessenger.link.calls import TRIES, Request
from cfmessenger.link.namespace import Address, Described, NamespaceClient
from tests.cfmessenger.link.scripted_server import Script, answer, scripted

HERE = Address("127.0.0.1", 4711, "key", "actor", 12)


@pytest.fixture(params=["unix", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix:{tmp_path}/ns" if request.param == "unix" else "tcp://127.0.0.1:0"


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    async with scripted(f"unix:{tmp_path}/ns") as (script, _):
        yield script


@pytest.fixture
async def client(script: Script, tmp_path: Path) -> AsyncIterator[NamespaceClient]:
    client = NamespaceClient(f"unix:{tmp_path}/ns", "secret")
    yield client
    await client.close()


async def test_a_stream_may_be_a_unix_socket_or_tcp(url: str) -> None:
    async with scripted(url) as (script, at):
        client = NamespaceClient(at)
        asking = asyncio.create_task(client.ping())
        request, writer = await script.requests.get()
        writer.write(answer(request, True))
        assert await asking is True
        await client.close()


async def test_every_verb_says_what_it_wants(
    client: NamespaceClient, script: Script
) -> None:
    calls = [
        (client.resolve("room:a", "uk"), ("resolve", ["room:a", "uk"]), HERE),
        (client.resolve("room:a"), ("resolve", ["room:a", None]), HERE),
        (
            client.resolve("room:a", None, moved=True),
            ("resolve", ["room:a", None, "moved"]),
            HERE,
        ),
        (
            client.resolve("room:a", None, lost="a1"),
            ("resolve", ["room:a", None, None, "a1"]),
            HERE,
        ),
        (
            client.resolve("room:a", "uk", moved=True, lost="a1"),
            ("resolve", ["room:a", "uk", "moved", "a1"]),
            HERE,
        ),
        (client.kill("room:a", "ff"), ("kill", ["room:a", "ff"]), True),
        (client.stored(), ("storage", []), True),
        (client.ping(), ("ping", []), False),
    ]
    for call, (verb, args), result in calls:
        asking = asyncio.create_task(call)
        request, writer = await script.requests.get()
        assert (request.verb, request.args, request.key) == (verb, args, "")
        writer.write(answer(request, result))
        assert await asking == result


async def test_a_server_of_before_answers_and_takes_no_notice(
    client: NamespaceClient, script: Script
) -> None:
    def of_before(request: Request) -> bool:
        """Whether it looks for the newest placement, as it read its arguments."""
        match request.args:
            case [str(_), _, *moved]:
                return moved == ["moved"]
        raise AssertionError("refused")

    for lost, moved, newest in [("a1", False, False), ("", True, True)]:
        asking = asyncio.create_task(client.resolve("room:a", None, moved, lost))
        request, writer = await script.requests.get()
        assert of_before(request) is newest
        before = {
            name: getattr(HERE, name)
            for name in HERE.__struct_fields__
            if name not in ("node", "generation")
        }
        writer.write(answer(request, before))
        assert await asking == HERE


async def test_a_server_of_before_describes_what_it_can(
    client: NamespaceClient, script: Script
) -> None:
    described = [Described("room:a", "dedicated", 9, 1, 2, 3)]
    asking = asyncio.create_task(client.describe())
    request, writer = await script.requests.get()
    assert (request.verb, request.args) == ("describe", ["", "1000"])
    writer.write(answer(request, None, "UNAVAILABLE"))
    request, writer = await script.requests.get()
    assert (request.verb, request.args) == ("describe", [])
    writer.write(answer(request, described))
    assert await asking == described


async def test_answers_may_come_in_any_order(
    client: NamespaceClient, script: Script
) -> None:
    names = [f"room:{n}" for n in range(10)]
    asking = [asyncio.create_task(client.resolve(name)) for name in names]
    asked = [await script.requests.get() for _ in names]
    assert len({request.id for request, _ in asked}) == 10
    for request, writer in reversed(asked):
        where = msgspec.structs.replace(HERE, actor_id=request.args[0] or "")
        writer.write(answer(request, where))
    assert [(await task).actor_id for task in asking] == names
    assert len(script.writers) == 1


async def test_an_error_comes_with_its_code(
    client: NamespaceClient, script: Script
) -> None:
    asking = asyncio.create_task(client.resolve("room:a"))
    request, writer = await script.requests.get()
    writer.write(answer(request, None, "AT_CAPACITY"))
    with pytest.raises(Unavailable) as problem:
        await asking
    assert (problem.value.code, problem.value.message) == (
        "AT_CAPACITY",
        "said the server",
    )


async def test_a_server_that_is_gone_fails_all_calls_and_is_found_again(
    client: NamespaceClient, script: Script, tmp_path: Path
) -> None:
    asking = [asyncio.create_task(client.ping()) for _ in range(3)]
    for _ in asking:
        await script.requests.get()
    script.stop()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    await script.start(f"unix:{tmp_path}/ns")
    again = asyncio.create_task(client.ping())
    request, writer = await script.requests.get()
    writer.write(answer(request, True))
    assert await again is True


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await NamespaceClient(f"unix:{tmp_path}/nobody").ping()


async def test_a_late_answer_is_nobodys(
    client: NamespaceClient, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "RESOLVE_TIMEOUT_S", 0.05)
    with pytest.raises(Unavailable):
        await client.resolve("room:slow")
    slow, writer = await script.requests.get()
    asking = asyncio.create_task(client.resolve("room:next"))
    request, _ = await script.requests.get()
    writer.write(answer(slow, msgspec.structs.replace(HERE, actor_id="slow")))
    writer.write(answer(request, HERE))
    assert (await asking).actor_id == "actor"


@pytest.mark.parametrize("nonsense", [b"\0\0\0\2\xc1\xc1", b"\xff\xff\xff\xff"])
async def test_nonsense_is_unavailable(
    client: NamespaceClient, script: Script, nonsense: bytes
) -> None:
    asking = asyncio.create_task(client.ping())
    for _ in range(TRIES):
        _, writer = await script.requests.get()
        writer.write(nonsense)
    with pytest.raises(Unavailable):
        await asking


async def test_closing_fails_what_is_under_way(
    client: NamespaceClient, script: Script
) -> None:
    asking = asyncio.create_task(client.ping())
    await script.requests.get()
    await client.close()
    with pytest.raises(Unavailable):
        await asking
