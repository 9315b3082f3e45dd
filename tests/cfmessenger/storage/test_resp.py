"""The lean connection: replies go to whoever asked, and a break is told to everyone."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.errors import Unavailable
from cfmessenger.storage import resp
from cfmessenger.storage.resp import Endpoint, ReplyError, RespConnection, parse_url
from tests import patience
from tests.effort import tries
from tests.valkey_proxy import proxied


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("unix:///a/b.sock", Endpoint("/a/b.sock", "", 0, False, None, None, 0)),
        (
            "unix://cfm:p%40ss@/a%20b?db=3",
            Endpoint("/a b", "", 0, False, "cfm", "p@ss", 3),
        ),
        (
            "unix:///s?username=u&password=p",
            Endpoint("/s", "", 0, False, "u", "p", 0),
        ),
        ("valkey://h", Endpoint(None, "h", 6379, False, None, None, 0)),
        ("redis://:p@h:1/2", Endpoint(None, "h", 1, False, None, "p", 2)),
        ("valkeys://u:p@h", Endpoint(None, "h", 6379, True, "u", "p", 0)),
        ("rediss://h:7?db=4", Endpoint(None, "h", 7, True, None, None, 4)),
    ],
)
def test_urls_are_read_as_valkey_py_reads_them(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    "url", ["http://h", "h:6379", "", "valkey://h:port", "valkey://h/zero"]
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_url(url)


async def test_batches_in_flight_get_their_own_replies(valkey_url: str) -> None:
    connection = await RespConnection.open(valkey_url)
    batches = [
        [("SET", f"cfm:resp:{n}", str(n)), *[("GET", f"cfm:resp:{n}")] * (n % 3)]
        for n in range(50)
    ]
    replies = await asyncio.gather(*map(connection.execute, batches))
    expected = [[b"OK", *[str(n).encode()] * (n % 3)] for n in range(50)]
    assert [[_plain(reply) for reply in batch] for batch in replies] == expected
    connection.close()


async def test_an_error_is_the_reply_of_its_command_alone(valkey_url: str) -> None:
    connection = await RespConnection.open(valkey_url)
    good, bad, after = await connection.execute(
        [("SET", "cfm:resp:text", "x"), ("SMEMBERS", "cfm:resp:text"), ("PING",)]
    )
    assert _plain(good) == b"OK"
    assert isinstance(bad, ReplyError)
    assert _plain(after) == b"PONG"
    connection.close()


async def test_a_reply_nobody_waits_for_is_not_the_next_ones(valkey_url: str) -> None:
    connection = await RespConnection.open(valkey_url)
    given_up = connection.execute([("SET", "cfm:resp:a", "1"), ("GET", "cfm:resp:a")])
    given_up.cancel()
    assert await connection.execute([("SETEX", "x")]) != []  # its own error
    assert await connection.execute([("GET", "cfm:resp:a")]) == [b"1"]
    connection.close()


async def test_a_break_fails_all_that_is_in_flight(valkey_url: str) -> None:
    async with proxied(valkey_url) as proxy:
        connection = await RespConnection.open(proxy.url)
        proxy.stall()
        flying = [connection.execute([("SET", "cfm:resp:b", "1")]) for _ in range(3)]
        await proxy.until_sent(b"cfm:resp:b", 3)
        proxy.cut()
        outcomes = await asyncio.gather(*flying, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        assert connection.lost
        with pytest.raises(Unavailable):
            await connection.execute([("PING",)])


async def test_what_has_no_reply_by_its_deadline_ends_the_connection(
    valkey_url: str,
) -> None:
    loop = asyncio.get_running_loop()
    async with proxied(valkey_url) as proxy:
        connection = await RespConnection.open(proxy.url)
        ping = [("PING",)]
        answered = connection.execute(ping, loop.time() + 0.05)
        assert await answered == [b"PONG"]
        proxy.stall()
        late = connection.execute(ping, loop.time() + 60)
        sooner = connection.execute(ping, loop.time() + 0.2)
        patient = connection.execute(ping)
        with pytest.raises(Unavailable, match="in time"):
            await patience.wait_for(sooner, 10)
        assert connection.lost
        for other in (late, patient):
            with pytest.raises(Unavailable):
                await other


async def test_closing_fails_what_is_in_flight(valkey_url: str) -> None:
    connection = await RespConnection.open(valkey_url)
    flying = connection.execute([("PING",)])
    connection.close()
    with pytest.raises(Unavailable):
        await flying


@pytest.mark.parametrize("change", ["password", "socket"])
async def test_who_cannot_sign_in_is_told(valkey_url: str, change: str) -> None:
    wrong = {
        "password": valkey_url.replace("cfm:tests", "cfm:wrong"),
        "socket": f"{valkey_url}.not",
    }[change]
    assert wrong != valkey_url
    with pytest.raises(Unavailable):
        await RespConnection.open(wrong)


async def test_a_server_that_never_answers_is_given_up(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "CONNECT_TIMEOUT_S", 0.05)
    async with proxied(valkey_url) as proxy:
        proxy.stall()
        with pytest.raises(Unavailable):
            await RespConnection.open(proxy.url)


class _Sink:
    """Stands in for the operating system's socket."""

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...


_REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":42\r\n", 42),
    (b"$-1\r\n", None),
    (b"$5\r\na\r\nb\r\r\n", b"a\r\nb\r"),
    (b"*2\r\n$1\r\nx\r\n*0\r\n", [b"x", []]),
    (b"-ERR no\r\n", "ERR no"),
]


@settings(max_examples=tries(60))
@given(
    batches=st.lists(
        st.lists(st.sampled_from(_REPLIES), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
async def test_replies_may_be_split_anywhere(
    batches: list[list[tuple[bytes, Any]]], cuts: list[int]
) -> None:
    connection = RespConnection()
    connection.connection_made(cast(asyncio.Transport, _Sink()))
    futures = [connection.send(b"", len(batch)) for batch in batches]
    stream = b"".join(raw for batch in batches for raw, _ in batch)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in zip(places, places[1:], strict=False):
        connection.data_received(stream[start:end])
    for future, batch in zip(futures, batches, strict=True):
        assert [_plain(reply) for reply in future.result()] == [v for _, v in batch]


def _plain(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        return str(reply)
    return reply.encode() if isinstance(reply, str) else reply
