"""The connection: replies go to whoever asked, and a break is told to everyone."""

import asyncio
import ssl
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.errors import Unavailable
from cfmessenger.storage import resp
from cfmessenger.storage.resp import (
    Command,
    Connection,
    Endpoint,
    ReplyError,
    UnknownOutcome,
    endpoint_of,
    pack,
    tls_context,
)
from tests import patience
from tests.effort import tries
from tests.valkey_proxy import proxied

LONG_S = 60.0


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
        ("valkey://h?protocol=2", Endpoint(None, "h", 6379, False, None, None, 0)),
    ],
)
def test_urls_are_read_as_valkey_py_reads_them(url: str, endpoint: Endpoint) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        *("http://h", "h:6379", "", "unix://", "valkey://h:port", "valkey://h/zero"),
        *("valkey://h?retry_on_timeout=1", "valkey://h?protocol=3"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        endpoint_of(url)


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
def test_tls_checks_certificate_and_name(scheme: str) -> None:
    context = tls_context(f"{scheme}://h")
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    context = tls_context(f"{scheme}://h?ssl_check_hostname=no&ssl_cert_reqs=none")
    assert not context.check_hostname and context.verify_mode is ssl.CERT_NONE


async def test_a_certificate_that_is_not_there_is_told_as_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        await Connection.open("valkeys://127.0.0.1:1?ssl_ca_certs=/nowhere", LONG_S)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def send(
    connection: Connection, *commands: Command, within: float = LONG_S
) -> asyncio.Future[list[Any]]:
    deadline = asyncio.get_running_loop().time() + within
    return connection.send(pack(commands), len(commands), deadline)


async def test_batches_in_flight_get_their_own_replies(valkey_url: str) -> None:
    connection = await Connection.open(valkey_url, LONG_S)
    batches = [
        [("SET", f"cfm:resp:{n}", str(n)), *[("GET", f"cfm:resp:{n}")] * (n % 3)]
        for n in range(50)
    ]
    replies = await asyncio.gather(*(send(connection, *batch) for batch in batches))
    expected = [[b"OK", *[str(n).encode()] * (n % 3)] for n in range(50)]
    assert [[_plain(reply) for reply in batch] for batch in replies] == expected
    connection.close()


async def test_an_error_is_the_reply_of_its_command_alone(valkey_url: str) -> None:
    connection = await Connection.open(valkey_url, LONG_S)
    good, bad, after = await send(
        connection,
        *[("SET", "cfm:resp:text", "x"), ("SMEMBERS", "cfm:resp:text"), ("PING",)],
    )
    assert _plain(good) == b"OK"
    assert isinstance(bad, ReplyError)
    assert _plain(after) == b"PONG"
    connection.close()


async def test_a_reply_nobody_waits_for_is_not_the_next_ones(valkey_url: str) -> None:
    connection = await Connection.open(valkey_url, LONG_S)
    given_up = send(connection, ("SET", "cfm:resp:a", "1"), ("GET", "cfm:resp:a"))
    given_up.cancel()
    assert await send(connection, ("SETEX", "x")) != []  # its own error
    assert await send(connection, ("GET", "cfm:resp:a")) == [b"1"]
    connection.close()


async def test_a_break_leaves_what_is_in_flight_unknown_and_sends_no_more(
    valkey_url: str,
) -> None:
    async with proxied(valkey_url) as proxy:
        connection = await Connection.open(proxy.url, LONG_S)
        proxy.stall()
        flying = [send(connection, ("SET", "cfm:resp:b", "1")) for _ in range(3)]
        await proxy.until_sent(b"cfm:resp:b", 3)
        proxy.cut()
        outcomes = await asyncio.gather(*flying, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnknownOutcome] * 3
        assert connection.lost
        before = len(proxy.sent)
        with pytest.raises(Unavailable) as caught:
            await send(connection, ("PING",))
        assert type(caught.value) is Unavailable, "it is known: it was not sent"
        assert len(proxy.sent) == before


async def test_who_waits_for_longer_is_answered_though_another_gave_up(
    valkey_url: str,
) -> None:
    async with proxied(valkey_url) as proxy:
        connection = await Connection.open(proxy.url, LONG_S)
        assert await send(connection, ("PING",)) == [b"PONG"]
        proxy.stall()
        late = send(connection, ("GET", "cfm:resp:none"))
        sooner = send(connection, ("PING",), within=0.05)
        patient = send(connection, ("TIME",))
        with pytest.raises(UnknownOutcome, match="in time"):
            await patience.wait_for(sooner, 10)
        assert connection.lost, "nothing new is sent on it"
        proxy.flow()
        assert await late == [None]
        assert len((await patient)[0]) == 2
        connection.close()


async def test_when_nobody_waits_any_more_the_connection_is_dropped(
    valkey_url: str,
) -> None:
    async with proxied(valkey_url) as proxy:
        connection = await Connection.open(proxy.url, LONG_S)
        proxy.stall()
        flying = [send(connection, ("PING",), within=s) for s in (0.05, 0.1, 0.05)]
        outcomes = await asyncio.gather(*flying, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnknownOutcome] * 3
        await patience.wait_for(proxy.pipes[0].gone.wait(), 10)


async def test_closing_leaves_what_is_in_flight_unknown(valkey_url: str) -> None:
    connection = await Connection.open(valkey_url, LONG_S)
    flying = send(connection, ("PING",))
    connection.close()
    with pytest.raises(UnknownOutcome):
        await flying


@pytest.mark.parametrize("change", ["password", "socket"])
async def test_who_cannot_sign_in_is_told(valkey_url: str, change: str) -> None:
    wrong = {
        "password": valkey_url.replace("cfm:tests", "cfm:wrong"),
        "socket": f"{valkey_url}.not",
    }[change]
    assert wrong != valkey_url
    with pytest.raises(Unavailable):
        await Connection.open(wrong, LONG_S)


async def test_a_server_that_never_answers_is_given_up(valkey_url: str) -> None:
    async with proxied(valkey_url) as proxy:
        proxy.stall()
        with pytest.raises(Unavailable) as caught:
            await Connection.open(proxy.url, 0.05)
        assert type(caught.value) is Unavailable


async def test_what_is_published_comes_as_it_comes_and_then_the_end(
    valkey_url: str,
) -> None:
    async with proxied(valkey_url) as proxy:
        listener = await Connection.open(proxy.url, LONG_S)
        speaker = await Connection.open(valkey_url, LONG_S)
        heard = listener.subscribe(
            [("SUBSCRIBE", "cfm:resp:one"), ("SUBSCRIBE", "cfm:resp:two")]
        )
        assert await heard.get() == [b"subscribe", b"cfm:resp:one", 1]
        assert await heard.get() == [b"subscribe", b"cfm:resp:two", 2]
        await send(speaker, ("PUBLISH", "cfm:resp:two", "word"))
        assert await heard.get() == [b"message", b"cfm:resp:two", b"word"]
        listener.ping()
        assert await heard.get() == [b"pong", b""]
        proxy.cut()
        assert isinstance(await heard.get(), Unavailable)
        speaker.close()


async def test_who_does_not_take_what_is_published_is_cut_off(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "HEARD_MOST", 3)
    async with proxied(valkey_url) as proxy:
        listener = await Connection.open(proxy.url, LONG_S)
        speaker = await Connection.open(valkey_url, LONG_S)
        heard = listener.subscribe([("SUBSCRIBE", "cfm:resp:flood")])
        word = ("PUBLISH", "cfm:resp:flood", "word")
        assert await heard.get() == [b"subscribe", b"cfm:resp:flood", 1]
        await send(speaker, *[word] * 4)
        await patience.wait_for(proxy.pipes[0].gone.wait(), 10)
        told = [heard.get_nowait() for _ in range(heard.qsize())]
        assert [type(each) for each in told] == [list, list, list, UnknownOutcome]
        speaker.close()


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
    connection = Connection()
    connection.connection_made(cast(asyncio.Transport, _Sink()))
    deadline = asyncio.get_running_loop().time() + LONG_S
    futures = [connection.send(b"", len(batch), deadline) for batch in batches]
    stream = b"".join(raw for batch in batches for raw, _ in batch)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in zip(places, places[1:], strict=False):
        connection.data_received(stream[start:end])
    for future, batch in zip(futures, batches, strict=True):
        assert [_plain(reply) for reply in future.result()] == [v for _, v in batch]
    connection.connection_lost(None)


async def test_who_answers_otherwise_is_no_valkey() -> None:
    connection = Connection()
    connection.connection_made(cast(asyncio.Transport, _Sink()))
    asked = send(connection, ("PING",))
    connection.data_received(b"220 mail.example ESMTP\r\n")
    with pytest.raises(UnknownOutcome, match="understood"):
        await asked
    assert connection.lost


def _plain(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        return str(reply)
    return reply.encode() if isinstance(reply, str) else reply
