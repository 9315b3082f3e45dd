"""Turnstile against a siteverify of our own: slow, broken, and every error code."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest
from valkey import Valkey as Admin

from cfmessenger.accounts.session_names import token_hash
from cfmessenger.accounts.turnstile import REPLAY_S, Siteverify, turnstile
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from tests.patience import skip

SECRET = "0x4AAAAAAA-a-real-one"
TIMEOUT_S = 60.0
STALL = "stall"
"""Nothing is said until the time of whoever asked is over."""


class Verifier:
    """Answers POSTs with the given replies in turn (the last one again and again)."""

    def __init__(self, *replies: object) -> None:
        self.replies = list(replies)
        self.forms: list[dict[str, str]] = []
        self.url = ""

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            assert head.startswith(b"POST /siteverify ")
            form = parse_qs((await reader.readexactly(length)).decode())
            self.forms.append({name: value for name, (value,) in form.items()})
            reply = self.replies[min(len(self.forms), len(self.replies)) - 1]
            if reply == STALL:
                skip(TIMEOUT_S)
                await reader.read()
            else:
                writer.write(self.answer(reply))
                await writer.drain()
        finally:
            writer.close()

    @staticmethod
    def answer(reply: object) -> bytes:
        if isinstance(reply, bytes):
            return reply
        status, body = reply if isinstance(reply, tuple) else (200, reply)
        text = body if isinstance(body, str) else json.dumps(body)
        return (
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n"
            f"Connection: close\r\n\r\n{text}"
        ).encode()


@asynccontextmanager
async def siteverify(*replies: object) -> AsyncIterator[Verifier]:
    verifier = Verifier(*replies)
    server = await asyncio.start_server(verifier.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    verifier.url = f"http://127.0.0.1:{port}/siteverify"
    try:
        yield verifier
    finally:
        server.close()


@pytest.fixture
async def kv(empty_valkey: str) -> AsyncIterator[Valkey]:
    client = Valkey(empty_valkey)
    yield client
    client.close()


Judge = Callable[..., Siteverify]


@pytest.fixture
async def judge(kv: Valkey) -> AsyncIterator[Judge]:
    made: list[Siteverify] = []

    def make(verifier: Verifier, **more: object) -> Siteverify:
        options = {"timeout_s": TIMEOUT_S} | more
        made.append(Siteverify(kv, SECRET, url=verifier.url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


def no(*codes: str) -> dict[str, object]:
    return {"success": False, "error-codes": list(codes)}


async def test_what_is_asked(judge: Judge, admin_valkey: Admin) -> None:
    async with siteverify({"success": True, "error-codes": [], "new": 1}) as verifier:
        await judge(verifier, fresh_key=lambda: "key-1").verify("token-1", "192.0.2.1")
    assert verifier.forms == [
        {
            "secret": SECRET,
            "response": "token-1",
            "remoteip": "192.0.2.1",
            "idempotency_key": "key-1",
        }
    ]
    mark = keys.turnstile(token_hash("token-1"))
    assert 0 < admin_valkey.ttl(mark) <= REPLAY_S
    async with siteverify({"success": True}) as verifier:
        await judge(verifier).verify("token-2", None)
    assert "remoteip" not in verifier.forms[0]


@pytest.mark.parametrize(
    "codes",
    [
        ("missing-input-response",),
        ("invalid-input-response",),
        ("timeout-or-duplicate",),
        ("something-new",),
        (),
    ],
)
async def test_a_refused_token_is_the_visitors(
    judge: Judge, codes: tuple[str, ...]
) -> None:
    async with siteverify(no(*codes)) as verifier:
        with pytest.raises(ProtocolError, match="TURNSTILE_FAILED"):
            await judge(verifier).verify("token", None)
    assert len(verifier.forms) == 1


@pytest.mark.parametrize(
    "code", ["missing-input-secret", "invalid-input-secret", "bad-request"]
)
async def test_a_refused_secret_is_ours_and_not_asked_twice(
    judge: Judge, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with siteverify((400, no(code))) as verifier:
        with pytest.raises(Unavailable, match="TURNSTILE_UNAVAILABLE"):
            await judge(verifier).verify("token", None)
    assert len(verifier.forms) == 1
    assert code in caplog.text
    assert SECRET not in caplog.text


BROKEN = {
    "internal error": no("internal-error"),
    "5xx": (502, "<html>bad gateway</html>"),
    "5xx with JSON": (503, no()),
    "no JSON": "success",
    "empty": "",
    "JSON of another shape": ["success"],
    "success that is text": {"success": "true"},
    "success with an error status": (500, {"success": True}),
    "redirect": b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "half an answer": b"HTTP/1.1 200 X\r\nContent-Length: 90\r\n\r\n{",
    "silence": STALL,
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
async def test_no_verdict_is_asked_once_more_with_the_same_key_and_never_passes(
    judge: Judge, kv: Valkey, reply: object
) -> None:
    async with siteverify(reply) as verifier:
        with pytest.raises(Unavailable, match="TURNSTILE_UNAVAILABLE"):
            await judge(verifier).verify("token", None)
    first, second = verifier.forms
    assert first == second and len(first["idempotency_key"]) == 36
    # The visitor may come again with the token: nobody has judged it.
    assert await kv.ask("EXISTS", keys.turnstile(token_hash("token"))) == 0


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
async def test_the_second_attempt_may_pass(judge: Judge, reply: object) -> None:
    async with siteverify(reply, {"success": True}) as verifier:
        await judge(verifier).verify("token", None)
    assert len(verifier.forms) == 2


async def test_nobody_listens(judge: Judge) -> None:
    async with siteverify() as verifier:
        pass
    with pytest.raises(Unavailable, match="TURNSTILE_UNAVAILABLE"):
        await judge(verifier).verify("token", None)


@pytest.mark.parametrize(
    ("hostname", "passes"),
    [
        ("chat.example", True),
        ("CHAT.example", True),
        ("example", False),
        ("evil.chat.example", False),
        ("", False),
        (None, False),
    ],
)
async def test_tokens_of_other_sites_do_not_count(
    judge: Judge, hostname: str | None, passes: bool
) -> None:
    async with siteverify({"success": True, "hostname": hostname}) as verifier:
        strict = judge(verifier, hostnames=("chat.example",))
        if passes:
            await strict.verify("token", None)
        else:
            with pytest.raises(ProtocolError, match="TURNSTILE_FAILED"):
                await strict.verify("token", None)


async def test_of_many_uses_at_once_one_passes_over_two_gateways(
    judge: Judge,
) -> None:
    async with siteverify({"success": True}) as verifier:
        judges = [judge(verifier), judge(verifier)]
        results = await asyncio.gather(
            *(judges[n % 2].verify("token", None) for n in range(20)),
            return_exceptions=True,
        )
    assert results.count(None) == 1
    assert all(
        isinstance(result, ProtocolError) and result.code == "TURNSTILE_FAILED"
        for result in results
        if result is not None
    )
    assert len(verifier.forms) == 1


async def test_without_valkey_nothing_passes(judge: Judge) -> None:
    async with siteverify({"success": True}) as verifier:
        away = Valkey("unix:///nowhere/at/all")
        alone = Siteverify(away, SECRET, url=verifier.url)
        with pytest.raises(Unavailable):
            await alone.verify("token", None)
        await alone.aclose()
    assert verifier.forms == []


@pytest.mark.parametrize(
    ("secret", "passes"),
    [
        (None, True),
        ("1x0000000000000000000000000000000AA", True),
        ("2x0000000000000000000000000000000AA", False),
        ("3x0000000000000000000000000000000AA", False),
    ],
)
async def test_no_secret_and_the_published_ones_are_answered_here(
    kv: Valkey, admin_valkey: Admin, secret: str | None, passes: bool
) -> None:
    judge = turnstile(kv, secret, url="http://127.0.0.1:1/")
    for _ in range(3):  # and a token may be used again
        if passes:
            await judge.verify("XXXX.DUMMY.TOKEN.XXXX", None)
        else:
            with pytest.raises(ProtocolError, match="TURNSTILE_FAILED"):
                await judge.verify("XXXX.DUMMY.TOKEN.XXXX", None)
    assert admin_valkey.dbsize() == 0
    await judge.aclose()


async def test_any_other_secret_is_asked_about(kv: Valkey) -> None:
    async with siteverify({"success": True}) as verifier:
        judge = turnstile(kv, "1x0000000000000000000000000000000AB", url=verifier.url)
        await judge.verify("token", None)
        await judge.aclose()
    assert len(verifier.forms) == 1
