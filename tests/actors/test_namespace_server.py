"""The namespace server: one flight a name, a key, and errors that say what they are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from actors import namespace_server as module
from actors.namespace_server import NamespaceServer
from cfmessenger import seldom
from cfmessenger.errors import Unavailable
from cfmessenger.link.calls import MAX_FRAME, Answer, Request, encode, frame
from cfmessenger.link.framing import read_frame
from cfmessenger.link.namespace import (
    PAGE,
    Address,
    Described,
    NamespaceClient,
)
from cfmessenger.link.secured import open_stream, serve_stream
from cfmessenger.placement import Mode, Placement
from tests import patience
from tests.cfmessenger.link.scripted_server import scripted
from tests.gateway.node import eventually


class Backend:
    """A namespace that does as it is told, and only when it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.told: list[tuple[bool, str]] = []  # `moved` and `lost` of each resolve
        self.rows = [Described("room:a", "local", 1, 2, 3, 4)]
        self.looks = 0
        self.killed: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.news = asyncio.Event()
        self.problem: Exception | None = None

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        self.asked.append((name, hint))
        self.told.append((moved, lost))
        self.news.set()
        await self.go.wait()
        if self.problem is not None:
            raise self.problem
        return Address("127.0.0.1", len(self.asked), "key", name, 1)

    async def kill(self, name: str, actor_id: str) -> bool:
        self.killed.append((name, actor_id))
        return actor_id == "right"

    async def describe(self) -> list[Described]:
        self.looks += 1
        return self.rows

    async def drain(self) -> int:
        return 3

    async def stored(self) -> bool:
        return False

    async def wakes(self) -> None:
        """Nobody asks."""

    async def place(self, mode: Mode, size: int) -> Placement:
        return Placement(mode, size, 1)

    async def ping(self) -> bool:
        return True


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/ns"


@pytest.fixture
async def server(backend: Backend, url: str) -> AsyncIterator[NamespaceServer]:
    server = NamespaceServer(backend, url, "secret")
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(server: NamespaceServer, url: str) -> AsyncIterator[NamespaceClient]:
    client = NamespaceClient(url, "secret")
    yield client
    await client.close()


async def test_every_verb_reaches_the_backend(
    client: NamespaceClient, backend: Backend
) -> None:
    assert (await client.resolve("room:a", "uk")).actor_id == "room:a"
    assert backend.asked == [("room:a", "uk")]
    assert await client.kill("room:a", "right")
    assert not await client.kill("room:a", "wrong")
    assert backend.killed == [("room:a", "right"), ("room:a", "wrong")]
    assert await client.describe() == [Described("room:a", "local", 1, 2, 3, 4)]
    assert await client.ping() is True
    assert await client.drain() == 3
    assert await client.stored() is False


async def test_a_size_that_is_no_number_is_named(client: NamespaceClient) -> None:
    assert await client.place("pooled", 3) == Placement("pooled", 3, 1)
    with pytest.raises(Unavailable) as refused:
        await client._call("place", ["pooled", "many"], 5.0)
    assert refused.value.code == "VALIDATION_ERROR"
    assert refused.value.message == "size: expected a number."


async def test_one_name_is_one_flight_over_all_connections(
    server: NamespaceServer, backend: Backend, url: str
) -> None:
    clients = [NamespaceClient(url, "secret") for _ in range(5)]
    backend.go.clear()
    calls = [
        asyncio.create_task(client.resolve(name))
        for client in clients
        for name in ("room:a", "room:a", "room:b")
    ]
    async with patience.within(5):
        while len(backend.asked) < 2:
            backend.news.clear()
            await backend.news.wait()
    for client in clients:
        assert await client.ping(), "a name that takes long holds up nobody"
    backend.go.set()
    found = await asyncio.gather(*calls)
    assert sorted(name for name, _ in backend.asked) == ["room:a", "room:b"]
    assert len(set(found)) == 2
    for client in clients:
        await client.close()


@pytest.mark.parametrize(
    ("more", "moved", "lost"),
    [
        # As a gateway of before says it, and as one does now.
        ([], False, ""),
        (["moved"], True, ""),
        ([None, "a1"], False, "a1"),
        (["moved", "a1"], True, "a1"),
        # And as a later one may.
        ([None, None, "what"], False, ""),
        (["moved", "a1", "what"], True, "a1"),
    ],
)
async def test_gateways_of_other_releases_are_understood(
    client: NamespaceClient,
    backend: Backend,
    more: list[str | None],
    moved: bool,
    lost: str,
) -> None:
    await client._call("resolve", ["room:a", None, *more], 5.0)
    assert backend.told == [(moved, lost)]


async def test_who_has_evidence_does_not_share_the_flight_of_who_has_none(
    client: NamespaceClient, backend: Backend
) -> None:
    backend.go.clear()
    calls = [
        asyncio.create_task(client.resolve("room:a", lost=lost))
        for lost in ("", "a1", "a1", "a2")
    ]
    async with patience.within(5):
        while len(backend.told) < 3:
            backend.news.clear()
            await backend.news.wait()
    backend.go.set()
    await asyncio.gather(*calls)
    assert backend.told == [(False, ""), (False, "a1"), (False, "a2")]


async def test_the_next_flight_starts_anew(
    client: NamespaceClient, backend: Backend
) -> None:
    first = await client.resolve("room:a")
    second = await client.resolve("room:a")
    assert first != second, "nothing is remembered: it may have moved"


async def test_who_gives_up_takes_nobody_along(
    server: NamespaceServer, backend: Backend, url: str
) -> None:
    one, two = NamespaceClient(url, "secret"), NamespaceClient(url, "secret")
    backend.go.clear()
    leaving = asyncio.create_task(one.resolve("room:a"))
    staying = asyncio.create_task(two.resolve("room:a"))
    await backend.news.wait()
    leaving.cancel()
    await one.close()
    backend.go.set()
    assert (await staying).actor_id == "room:a"
    await two.close()


async def test_a_failure_is_everyones_and_not_for_ever(
    client: NamespaceClient, backend: Backend
) -> None:
    backend.problem = Unavailable("AT_CAPACITY", "full")
    calls = [client.resolve("room:a") for _ in range(3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(each, "code", None) for each in outcomes] == ["AT_CAPACITY"] * 3
    backend.problem = None
    assert (await client.resolve("room:a")).actor_id == "room:a"


async def test_a_bug_is_an_internal_error_that_says_nothing(
    client: NamespaceClient, backend: Backend
) -> None:
    backend.problem = KeyError("/a/secret/path")
    with pytest.raises(Unavailable) as problem:
        await client.resolve("room:a")
    assert problem.value.code == "INTERNAL_ERROR"
    assert "secret" not in problem.value.message


async def test_an_answer_that_is_too_long_costs_nobody_the_connection(
    client: NamespaceClient, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfmessenger.link.calls.MAX_FRAME", 100)
    long = client.resolve("room:" + "a" * 50)
    with pytest.raises(Unavailable) as problem:
        await long
    assert problem.value.code == "INTERNAL_ERROR"
    assert await client.ping()


async def test_a_description_of_any_length_is_read_in_pages_of_one_look(
    client: NamespaceClient, backend: Backend
) -> None:
    # 1 MiB would hold some 11,000 of these.
    rows = [
        Described(f"room:{n:05}", "pooled", n, actor="r" * 60) for n in range(25_000)
    ]
    backend.rows = rows[::-1]
    assert await client.describe() == rows
    assert backend.looks == 1
    backend.rows = rows[:1]
    assert await client.describe() == rows[:1], "a first page looks again"
    backend.rows = []
    assert await client.describe() == []


async def test_a_page_has_no_more_rows_than_fit(
    client: NamespaceClient, backend: Backend
) -> None:
    backend.rows = [Described(f"room:{n:03}", "x" * 5000, n) for n in range(999)]
    assert await client.describe() == backend.rows


async def test_a_client_of_before_is_shown_as_much_as_fits(
    client: NamespaceClient, backend: Backend
) -> None:
    rows = [
        Described(f"room:{n:05}", "pooled", n, actor="r" * 60) for n in range(25_000)
    ]
    backend.rows = rows
    raw = await client._call("describe", [], 5.0)
    shown = msgspec.msgpack.decode(raw, type=list[Described])
    assert 5 * PAGE < len(shown) < len(rows)
    assert shown == rows[: len(shown)]


async def test_a_second_server_goes_on_where_the_first_left(
    client: NamespaceClient, backend: Backend
) -> None:
    raw = await client._call("describe", ["room:", "1000"], 5.0)
    assert msgspec.msgpack.decode(raw, type=list[Described]) == backend.rows
    with pytest.raises(Unavailable) as refused:
        await client._call("describe", ["room:", "all"], 5.0)
    assert refused.value.message == "limit: expected a number."


# Strangers.


Limited = Callable[..., Awaitable[str]]


@pytest.fixture
async def limited(backend: Backend) -> AsyncIterator[Limited]:
    """Servers on TCP, with limits of their own: where each is reached."""
    started: list[NamespaceServer] = []

    async def start(**limits: float) -> str:
        server = NamespaceServer(backend, "tcp://127.0.0.1:0", "secret", **limits)  # type: ignore[arg-type]
        await server.start()
        started.append(server)
        assert server._server is not None
        return f"tcp://127.0.0.1:{server._server.port}"

    yield start
    for server in started:
        await server.close()


async def hung_up(reader: asyncio.StreamReader) -> None:
    """The other end closes, and says nothing before."""
    with suppress(ConnectionResetError):
        assert await patience.wait_for(reader.read(), 5) == b""


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x40abc"])
async def test_who_says_nothing_of_sense_in_time_is_hung_up_on(
    limited: Limited, said: bytes
) -> None:
    url = await limited(hello_s=0.1)
    async with closing_client(url) as known:
        assert await known.ping()
        reader, writer = await open_stream(url)
        writer.write(said)
        await hung_up(reader)
        writer.close()
        assert await known.ping(), "who has shown the key may be silent for long"
        assert known.unreachable_since is None


async def test_a_first_frame_must_be_small(limited: Limited) -> None:
    url = await limited(hello_s=3600.0)
    reader, writer = await open_stream(url)
    writer.write((module.HELLO_BYTES + 1).to_bytes(4, "big"))
    await hung_up(reader)
    writer.close()
    async with closing_client(url) as known:
        name = "room:" + "a" * module.HELLO_BYTES
        assert (await known.resolve(name)).actor_id == name, "a later one need not be"


async def test_connections_are_bounded_and_it_is_said_once(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    url = await limited(most_callers=2)
    async with closing_client(url) as one, closing_client(url) as two:
        assert await one.ping() and await two.ping()
        for _ in range(3):
            reader, writer = await open_stream(url)
            await hung_up(reader)
            writer.close()
        assert await one.ping() and await two.ping()
    assert caplog.text.count("too many") == 1
    async with closing_client(url) as three:

        async def let_in() -> bool:
            with suppress(Unavailable):
                return await three.ping()
            return False

        await eventually(let_in)


async def test_wrong_keys_are_not_logged_as_often_as_strangers_like(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    url = await limited()

    async def knock() -> None:
        reader, writer = await open_stream(url)
        writer.write(frame(Request(1, "ping", [], "guessed")))
        await hung_up(reader)
        writer.close()

    for _ in range(5):
        await knock()
    said = "a caller of the namespace at 127.0.0.1 is refused: it does not know the key"
    assert caplog.messages == [said]
    patience.skip(seldom.EVERY_S)
    await knock()
    assert caplog.messages[1:] == [f"{said} (5 times)"]
    assert "guessed" not in caplog.text


@asynccontextmanager
async def heard_by(url: str, heard: list[bytes]) -> AsyncIterator[str]:
    """A relay to the server, and what passes through it: where it listens."""

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            heard.append(data)
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await open_stream(url)
        with suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, out), pass_on(there, writer))

    relay = await serve_stream("tcp://127.0.0.1:0", serve)
    try:
        yield f"tcp://127.0.0.1:{relay.port}"
    finally:
        relay.close()


async def test_the_key_is_proved_by_both_ends_and_never_sent(
    limited: Limited, backend: Backend
) -> None:
    heard: list[bytes] = []
    async with heard_by(await limited(), heard) as url, closing_client(url) as client:
        assert (await client.resolve("room:a")).actor_id == "room:a"
    assert b"room:a" in b"".join(heard)
    assert b"secret" not in b"".join(heard)


async def test_a_server_that_does_not_know_the_key_is_asked_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted() as (script, url):
        script.key = "guessed"
        async with closing_client(url) as client:
            with pytest.raises(Unavailable):
                await client.resolve("room:a")
        assert script.requests.empty()
    assert f"no calls to {url}: it does not know the key" in caplog.messages


@pytest.mark.parametrize("knows", [True, False])
async def test_a_caller_of_the_release_before_shows_its_key_and_is_told_of_once(
    limited: Limited,
    backend: Backend,
    knows: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = await limited()
    for _ in range(2):
        reader, writer = await open_stream(url)
        key = "secret" if knows else "guessed"
        writer.write(frame(Request(1, "alive", [], key)))
        writer.write(frame(Request(2, "resolve", ["room:a", None], key)))
        if knows:
            for _ in range(2):
                answer = await patience.wait_for(read_frame(reader, MAX_FRAME), 5)
                assert msgspec.msgpack.decode(answer, type=Answer).error is None
        else:
            await hung_up(reader)
        writer.close()
    assert len(backend.asked) == 2 * knows
    old = "callers of the release before send their keys in clear"
    assert caplog.messages.count(old) == knows


async def test_a_server_of_the_release_before_is_shown_the_key_and_no_other(
    limited: Limited,
) -> None:
    heard: list[bytes] = []
    async with heard_by(await limited(), heard) as url:
        async with closing_client(f"{url}#5") as client:
            assert await client.ping()
        assert b"secret" in b"".join(heard)
        heard.clear()
        async with closing_client(f"{url}#6") as client:
            assert await client.ping()
        assert b"secret" not in b"".join(heard)


async def test_who_speaks_no_version_of_ours_is_told_both_and_so_is_the_log(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await open_stream(await limited())
    writer.write(frame(Request(1, "hello", ["8", "9", "00" * 32], "")))
    answer = msgspec.msgpack.decode(await read_frame(reader, MAX_FRAME), type=Answer)
    both = "it speaks versions 8 to 9 of the link, this end versions 5 to 6"
    assert (answer.error, answer.message) == ("UNAVAILABLE", both)
    await hung_up(reader)
    writer.close()
    assert [each for each in caplog.messages if both in each] == [
        f"a caller of the namespace at 127.0.0.1 is refused: {both}"
    ]


@pytest.mark.parametrize(
    "said",
    [
        [Request(1, "hello", [], "")],
        [Request(1, "hello", ["5", "6", "zz"], "")],
        [Request(1, "hello", ["5", "9" * 40, "00" * 32], "")],
        [Request(1, "hello", ["7", "6", "00" * 32], "")],
        [Request(1, "hello", ["5", "6", "00"], "")],
        [Request(1, "hello", ["5", "6", "00" * 32], ""), Request(2, "prove", [], "")],
        [
            Request(1, "hello", ["5", "6", "00" * 32], ""),
            Request(2, "prove", ["00" * 32], ""),
        ],
        [
            Request(1, "hello", ["5", "6", "00" * 32], ""),
            Request(2, "resolve", ["room:a", None], ""),
        ],
    ],
)
async def test_who_greets_and_proves_nothing_is_asked_nothing(
    limited: Limited, backend: Backend, said: list[Request]
) -> None:
    reader, writer = await open_stream(await limited())
    writer.write(b"".join(map(frame, said)))
    writer.write(frame(Request(3, "resolve", ["room:a", None], "")))
    with suppress(ConnectionResetError):
        await patience.wait_for(reader.read(), 5)
    writer.close()
    assert backend.asked == []


@asynccontextmanager
async def closing_client(url: str) -> AsyncIterator[NamespaceClient]:
    client = NamespaceClient(url, "secret")
    try:
        yield client
    finally:
        await client.close()


async def test_a_wrong_key_is_not_answered(
    server: NamespaceServer, backend: Backend, url: str
) -> None:
    for key in ("", "wrong", "€"):
        client = NamespaceClient(url, key)
        with pytest.raises(Unavailable):
            await client.resolve("room:a")
        await client.close()
    assert backend.asked == []


@pytest.mark.parametrize(
    ("verb", "args"),
    [("resolve", []), ("resolve", [None, None]), ("kill", ["a"]), ("drop", ["a"])],
)
async def test_what_is_no_call_is_refused(
    client: NamespaceClient, backend: Backend, verb: str, args: list[str | None]
) -> None:
    with pytest.raises(Unavailable):
        await client._call(verb, args, 5.0)
    assert await client.ping()


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0\1\xc1",
        b"\xff\xff\xff\xff",
        b"\0\0\0\6\x94\x01\xa1\xff\x90\xa0",  # not UTF-8
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_ends_its_connection_alone(
    client: NamespaceClient, url: str, raw: bytes
) -> None:
    assert await client.ping()
    reader, writer = await open_stream(url)
    writer.write(raw)
    assert await reader.read() == b""
    writer.close()
    assert await client.ping()


async def test_calls_of_one_connection_are_bounded(
    server: NamespaceServer,
    backend: Backend,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 3)
    backend.go.clear()
    _, writer = await open_stream(url)
    for n in range(10):
        body = Request(n, "resolve", [f"room:{n}", None], "secret")
        writer.write(frame(body))
    await writer.drain()
    other = NamespaceClient(url, "secret")
    assert await other.ping()
    assert await other.ping()
    assert len(backend.asked) == 3
    backend.go.set()
    async with patience.within(5):
        while len(backend.asked) < 10:
            backend.news.clear()
            await backend.news.wait()
    writer.close()
    await other.close()


async def test_nobody_is_answered_after_the_end(
    server: NamespaceServer, client: NamespaceClient
) -> None:
    assert await client.ping()
    await server.close()
    with pytest.raises(Unavailable):
        await client.ping()


async def test_an_open_tcp_port_needs_a_key(backend: Backend) -> None:
    with pytest.raises(ValueError):
        await NamespaceServer(backend, "tcp://127.0.0.1:0").start()
    server = NamespaceServer(backend, "tcp://127.0.0.1:0", "secret")
    await server.start()
    assert server._server is not None
    url = f"tcp://127.0.0.1:{server._server.port}"
    client = NamespaceClient(url, "secret")
    assert await client.ping()
    await client.close()
    await server.close()


async def test_a_unix_socket_may_do_without_a_key(backend: Backend, url: str) -> None:
    server = NamespaceServer(backend, url)
    await server.start()
    client = NamespaceClient(url)
    assert await client.ping()
    await client.close()
    await server.close()


def test_a_request_is_what_version_1_says() -> None:
    # Gateways and namespace servers are restarted one by one.
    assert encode(Request(1, "ping", [], "k")) == b"\x94\x01\xa4ping\x90\xa1k"
