"""What every answer has: envelope, request id, headers, limits, one line in the log."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.middleware import access_log
from tests import patience
from tests.gateway.edge import Gateway, data_of, gateway, meta_of, refused

ORIGIN = "https://chat.example"


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with gateway(valkey_url, allowed_origins=ORIGIN) as running:
        yield running


async def test_a_sane_request_id_is_echoed(edge: Gateway) -> None:
    async with edge.client() as http:
        for given in ("a", "A-b_c.9", "x" * 64):
            answer = await http.get("/api/config", headers={"X-Request-Id": given})
            assert meta_of(answer)["requestId"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a/b", "ä", "{}"])
async def test_any_other_is_replaced_by_a_new_uuid(
    edge: Gateway, given: str | None
) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode()}
    async with edge.client() as http:
        first = meta_of(await http.get("/api/config", headers=headers))["requestId"]
        second = meta_of(await http.get("/api/config", headers=headers))["requestId"]
    assert uuid.UUID(first).version == 4
    assert first != second


@pytest.mark.parametrize(
    "path",
    ["/api/nothing", "/api/users/", "/api", "/index.html", "/api/config/x", "/%00"],
)
async def test_nothing_there(edge: Gateway, path: str) -> None:
    async with edge.client() as http:
        for method in ("GET", "POST", "DELETE"):
            answer = await http.request(method, path)
            refused(answer, 404, "NOT_FOUND", "There is nothing here.")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/config", {"GET", "HEAD"}),
        ("GET", "/api/auth/login", {"POST"}),
        ("DELETE", "/api/users", {"GET", "HEAD"}),
        ("OPTIONS", "/api/presence", {"POST"}),
        ("BREW", "/healthz", {"GET", "HEAD"}),
        ("PUT", "/api/rooms/general/messages", {"GET", "HEAD"}),
    ],
)
async def test_the_method_is_not_allowed(
    edge: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    async with edge.client() as http:
        answer = await http.request(method, path)
    refused(answer, 405, "METHOD_NOT_ALLOWED", "This method is not allowed here.")
    assert set(answer.headers["allow"].split(", ")) == allowed


async def test_a_body_of_64_kib_and_one_byte_more(edge: Gateway) -> None:
    body = b'{"userId":"user_1","more":"' + b"x" * 65_507 + b'"}'
    assert len(body) == 65_536
    async with edge.client() as http:
        refused(
            await http.post("/api/auth/login", content=body), 403, "TURNSTILE_REQUIRED"
        )
        answer = await http.post("/api/auth/login", content=body + b" ")
        refused(answer, 413, "PAYLOAD_TOO_LARGE", "The body is too large.")
        # Wherever it goes, declared is enough.
        answer = await http.post("/api/nothing", content=body + b" ")
        refused(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_grows_is_cut_off_too(edge: Gateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 4096

    async with edge.client() as http:
        answer = await http.post("/api/auth/login", content=endless())
        refused(answer, 413, "PAYLOAD_TOO_LARGE")
        assert (await http.get("/healthz")).status_code == 200


async def test_a_bug_is_a_500_that_says_nothing(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edge.hub, "error", AssertionError("the inner workings"))
    async with edge.client(await edge.login("user_1")) as http:
        answer = await http.post("/api/presence", json={"status": "away"})
        refused(answer, 500, "INTERNAL_ERROR", "Something went wrong on our side.")
        assert "inner" not in answer.text
        assert "the inner workings" in caplog.text  # in the log, once
        assert caplog.text.count("Traceback") == 1
        data_of(await http.get("/api/config"))  # and the process lives


async def test_security_headers(edge: Gateway) -> None:
    async with edge.client() as http:
        for path in ("/api/config", "/api/nothing", "/api/auth/me"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            policy = "default-src 'none'; frame-ancestors 'none'"
            assert headers["content-security-policy"] == policy


async def test_listed_origins_may_read_answers_and_others_may_not(
    edge: Gateway,
) -> None:
    async with edge.client() as http:
        answer = await http.get("/api/config", headers={"Origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        for origin in ("https://chat.example.evil", "null", "http://chat.example"):
            answer = await http.get("/api/config", headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["vary"] == "Origin"


async def test_a_preflight(edge: Gateway) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Origin": ORIGIN}
    async with edge.client() as http:
        answer = await http.options("/api/presence", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        asked["Origin"] = "https://elsewhere.example"
        answer = await http.options("/api/presence", headers=asked)
        refused(answer, 405, "METHOD_NOT_ALLOWED")


async def test_a_refused_upgrade_has_the_envelope_and_the_id(edge: Gateway) -> None:
    for path, status, code in (
        ("/api/ws/nothing", 404, "NOT_FOUND"),
        ("/api/users", 404, "NOT_FOUND"),
        ("/api/ws/presence", 401, "AUTH_REQUIRED"),
    ):
        url = f"ws://127.0.0.1:{edge.port}{path}"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(
                url, proxy=None, additional_headers={"X-Request-Id": "r1"}
            ):
                pass
        response = caught.value.response
        assert response.status_code == status
        body = json.loads(response.body or b"")
        assert set(body) == {"success", "error", "meta"}
        assert body["error"]["code"] == code
        assert body["meta"]["requestId"] == response.headers["X-Request-Id"] == "r1"
        assert response.headers["Content-Type"] == "application/json"


async def test_one_line_a_request_without_the_query_and_within_a_line(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cfmessenger.access")
    async with edge.client() as http:
        await http.get("/api/users/%0d%0aforged?sessionId=secret", headers={})
        await http.post("/api/auth/logout")
    with pytest.raises(InvalidStatus):
        async with connect(
            f"ws://127.0.0.1:{edge.port}/api/ws/presence?sessionId={'s' * 43}",
            proxy=None,
        ):
            pass
    lines = [r.getMessage() for r in caplog.records if r.name == "cfmessenger.access"]
    assert [line.split()[:3] for line in lines] == [
        ["GET", "/api/users/%0d%0aforged", "404"],
        ["POST", "/api/auth/logout", "401"],
        ["GET", "/api/ws/presence", "401"],
    ]
    assert not any("secret" in line or "sss" in line for line in lines)


async def test_a_client_that_leaves_is_no_error(
    edge: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = asyncio.Event()
    monkeypatch.setattr(access_log, "filter", lambda _: logged.set() or True)
    caplog.set_level("INFO", access_log.name)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    # The server asks for the body when the endpoint does.
    writer.write(
        b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 100\r\n\r\n"
    )
    assert b"100" in await reader.readline()
    writer.close()
    async with patience.within(2):
        await logged.wait()
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert " 499 " in caplog.text
