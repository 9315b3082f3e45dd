"""The ASGI application: one route table, one exception table, the lifespan.

Routes are wire.md §1's, in its order. Whatever an endpoint raises is answered by the
exception table; what is not in it is a bug and `middleware.Edge` answers 500.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.settings import Settings
from gateway.api import data
from gateway.api.docs import pages
from gateway.api.docs.collections import on_collections
from gateway.api.docs.operation import Endpoint
from gateway.api.hub import Data, Hub, RoomLog, Services
from gateway.api.operations import OPERATIONS
from gateway.envelope import Refusal, refuse
from gateway.live import sockets
from gateway.middleware import Edge
from gateway.origin import served_hosts
from gateway.web import pages as web


class _RoomConvertor(Convertor[str]):
    """All that can stand where a room's id should, slashes and newlines included."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("room", _RoomConvertor())

logger = logging.getLogger("cfmessenger.gateway")


def create_app(
    settings: Settings,
    hub: Callable[[Services], Hub],
    log: RoomLog,
    sql: Data | None = None,
) -> Starlette:
    """The application of one gateway process.

    `hub` makes the side of sockets and actors, given the parts that exist by then;
    `sql` makes the collections, and without it there are none.
    Startup fails on a Valkey that is away or too old; shutdown drains the hub.
    """
    app: Starlette = Starlette(
        routes=routes(),
        middleware=[
            Middleware(
                Edge,
                allowed_origins=settings.allowed_origins,
                served_hosts=served_hosts(settings),
                now=lambda: app.state.services.clock.now(),
            ),
        ],
        exception_handlers=EXCEPTIONS,
        lifespan=_lifespan,
    )
    # Nothing is at `/api/users/`, and a redirect is no envelope.
    app.router.redirect_slashes = False
    app.router.default = _not_found
    services = Services.build(settings, hub, log, sql)
    collections = {} if services.store is None else services.store.collections
    app.state.services = services
    app.state.pages = pages.build([*OPERATIONS, *on_collections(collections)])
    app.state.web = web.build(settings.turnstile_site_key or "")
    return app


_ROW_METHODS = ["GET", "PATCH", "DELETE"]


def routes() -> list[BaseRoute]:
    """Every path there is. A room's id may hold anything, so that it can be refused."""
    return [
        # First: they are looked at in this order, and most that comes is a socket.
        WebSocketRoute("/api/ws/room/{id:room}", _Asgi(sockets.room_socket)),
        WebSocketRoute("/api/ws/presence", _Asgi(sockets.presence_socket)),
        *(Route(one.path, one.endpoint, methods=[one.method]) for one in OPERATIONS),
        Route("/api/data/{collection}", data.rows, methods=["GET", "POST"]),
        Route("/api/data/{collection}/{id}", data.row, methods=_ROW_METHODS),
        _get("/docs", pages.page),
        _get("/docs/page.css", pages.style),
        _get("/docs/page.mjs", pages.script),
        _get("/", web.serve),
        _get("/web/{version}/{path:path}", web.serve),
    ]


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["GET"])


class _Asgi:
    # Starlette wraps a plain function into one that is given a WebSocket; an instance
    # is an ASGI application and gets scope, receive and send as they are.
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _refused(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, ProtocolError | Unavailable)
    if isinstance(error, Unavailable):
        # What a client is not told: which part, and what it said.
        logger.warning("%s %r", error, error.__cause__)
    return Refusal.from_error(error).response()


async def _of_starlette(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "INTERNAL_ERROR")
    return Refusal.of(code, headers=error.headers).response()


_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "PAYLOAD_TOO_LARGE"}

EXCEPTIONS: dict[Any, Callable[[HTTPConnection, Exception], Awaitable[Response]]] = {
    ProtocolError: _refused,
    Unavailable: _refused,
    HTTPException: _of_starlette,
}


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refusal.of("NOT_FOUND")
    if scope["type"] == "websocket":
        await refuse(send, refusal)
    else:
        await refusal.response()(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    services: Services = app.state.services
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.aclose)
        await services.kv.require_version()
        if services.store is not None:
            await services.store.start(services.directory)
        if services.names is not None:
            following = services.names.following(services.clock.now)
            await stack.enter_async_context(following)
        await services.hub.start()
        stack.push_async_callback(services.hub.drain)
        yield
