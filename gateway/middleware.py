"""The outermost layer: request id, body limit, headers, access log, the last catch.

Pure ASGI. Every HTTP answer and every refused handshake passes here and leaves with an
`X-Request-Id` and the security headers; what escaped the application becomes a
500 envelope without a word of what it was. The access log is ours because uvicorn's
prints the query string, where session ids are. A WebSocket is logged when its handshake
is answered; its frames pass unlooked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cfmessenger.errors import CloseCode, ProtocolError
from cfmessenger.log_format import request_id as REQUEST_ID
from gateway import metrics
from gateway.envelope import NOW, Headers, Refusal, choose_request_id, refuse
from gateway.origin import check_host, check_method

log = logging.getLogger("cfmessenger.gateway")
access_log = logging.getLogger("cfmessenger.access")

BODY_LIMIT = 64 * 1024
_CLIENT_GONE = 499  # nginx's: the client did not wait for its answer
_LOGGED_PATH = 256

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""On every answer, unless an endpoint says one of them itself (a page's own policy)."""
# A browser obeys these for what it shows as a document, also a picture by itself.
# Scripts and styles obey their page's; on them these headers would be a twentieth of
# the bytes of the web client.
_DOCUMENT = frozenset(
    (
        b"referrer-policy",
        b"content-security-policy",
        b"cross-origin-opener-policy",
    )
)
_PARTS = (b"text/css", b"text/javascript")
# Not Starlette's CORSMiddleware: within this layer it adds nothing to the refusals made
# here (403, 413, 421, 500), so that a listed origin's page could not read them; around
# it, a preflight has no request id, no security headers, no check of the host and no
# line in the log, and one from elsewhere is "400 Disallowed CORS origin", not the
# envelope. It also names the exposed headers to everybody.
_CORS: Headers = [
    (b"access-control-expose-headers", b"ETag, X-Request-Id, Retry-After, Location"),
]
_WHOLE: Headers = [(b"allow", b"GET, HEAD, POST, PATCH, DELETE, OPTIONS")]
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
        b"X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
]


class Edge:
    """Wraps the application. `allowed_origins` may read answers across origins.

    `served_hosts` are the names that are answered to; None: any. `now`: Unix ms.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        now: Callable[[], int] | None = None,
        allowed_origins: Collection[str] = (),
        served_hosts: Collection[str] | None = None,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        self._app = app
        self._now = now
        self._allowed = frozenset(allowed_origins)
        self._origins = frozenset(origin.encode() for origin in allowed_origins)
        self._hosts = served_hosts
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._origins, self._body_limit)
        token = REQUEST_ID.set(exchange.request_id)
        clock = NOW.set(self._now) if self._now is not None else None
        try:
            await self._serve(exchange)
        finally:
            exchange.done()
            REQUEST_ID.reset(token)
            if clock is not None:
                NOW.reset(clock)

    async def _serve(self, exchange: _Exchange) -> None:
        try:
            check_host(exchange.scope, self._hosts)
            if not exchange.websocket:  # a handshake's order of checks is its own
                check_method(exchange.scope, self._allowed)
        except ProtocolError as error:
            await exchange.answer(Refusal.from_error(error))
            return
        if exchange.declares_too_much():
            await exchange.answer(Refusal.of("PAYLOAD_TOO_LARGE"))
            return
        if exchange.is_preflight():
            await exchange.answer_options(_PREFLIGHT)
            return
        if exchange.scope["path"] == "*":  # RFC 9110 §9.3.7: of the server as a whole
            await exchange.answer_options(_WHOLE)
            return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or _CLIENT_GONE
        except Exception:
            log.exception("a request failed")
            await exchange.fail()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        origins: frozenset[bytes],
        body_limit: int,
    ) -> None:
        self.scope = scope
        self.websocket = scope["type"] == "websocket"
        self.request_id = choose_request_id(scope["headers"])
        self.status = 0  # of the answer, from its start on; 0: not answered yet
        self._receive = receive
        self._send = send
        self._body_left = body_limit  # bytes that may still come
        self._body_limit = body_limit
        self._started = time.perf_counter()
        self._finished = False  # True from `done` on: logged and counted
        given = dict(scope["headers"])
        origin = given.get(b"origin")
        self._origin = origin if origin is not None and origin in origins else None
        self._added: Headers = [(b"x-request-id", self.request_id.encode()), *SECURITY]
        if scope["path"].startswith("/api/"):
            if origins:
                self._added.append((b"vary", b"Origin"))
            if self._origin is not None:
                self._added.append((b"access-control-allow-origin", self._origin))
                self._added += _CORS
        self._preflight = b"access-control-request-method" in given
        self._length = given.get(b"content-length", b"0")
        self.receive = receive if self.websocket else self._counted
        scope.setdefault("state", {})["request_id"] = self.request_id

    def declares_too_much(self) -> bool:
        """Content-Length says so: answered before a byte of the body is read."""
        return self._length.isdigit() and int(self._length) > self._body_limit

    def is_preflight(self) -> bool:
        """A browser asks before it sends a cross-origin request we allow."""
        return (
            self._preflight
            and self._origin is not None
            and self.scope.get("method") == "OPTIONS"
        )

    async def answer(self, refusal: Refusal) -> None:
        if self.websocket:
            await refuse(self.send, refusal)
        else:
            await refusal.response()(self.scope, self._receive, self.send)

    async def answer_options(self, headers: Headers) -> None:
        start = {"type": "http.response.start", "status": 204, "headers": headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    async def fail(self) -> None:
        """The application raised: the best that can still be said."""
        if not self.status:
            await self.answer(Refusal.of("INTERNAL_ERROR"))
        elif self.websocket and self.status == 101:
            try:
                await self._send(
                    {"type": "websocket.close", "code": CloseCode.INTERNAL_ERROR}
                )
            except (OSError, RuntimeError):
                log.debug("the socket was closed already")
        else:
            # Half an answer must not look like a whole one: uvicorn cuts the line.
            raise RuntimeError("the answer had begun")

    async def _counted(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_left -= len(message.get("body", b""))
            if self._body_left < 0:
                raise ProtocolError("PAYLOAD_TOO_LARGE")
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith("response.start"):
            self.status = message["status"]
            given = list(message.get("headers", ()))
            said = dict(given)
            needless = set(said)
            if said.get(b"content-type", b"").startswith(_PARTS):
                needless |= _DOCUMENT
            message["headers"] = given + [
                header for header in self._added if header[0] not in needless
            ]
        elif kind == "websocket.accept":
            self.status = 101
            message["headers"] = [*message.get("headers", ()), *self._added[:1]]
        await self._send(message)
        if self.websocket and self.status:
            self.done()

    def done(self) -> None:
        """Writes the line and the figures, once."""
        if self._finished:
            return
        self._finished = True
        took = time.perf_counter() - self._started
        method = self.scope.get("method", "GET")
        route = getattr(self.scope.get("route"), "path", "unmatched")
        known = method if method in _METHODS else "OTHER"
        metrics.REQUESTS.labels(known, route, str(self.status)).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(took)
        client = self.scope.get("client")
        access_log.info(
            "%s %s %d %.1fms %s",
            method,
            self._path(),
            self.status,
            took * 1000,
            client[0] if client else "local",
        )

    def _path(self) -> str:
        # As it came, percent-encoded, never with the query string.
        raw: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        return raw.partition(b"?")[0][:_LOGGED_PATH].decode("latin-1")
