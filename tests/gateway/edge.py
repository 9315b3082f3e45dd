"""A gateway on loopback for tests: real uvicorn, real Valkey, and what it is asked.

The two ports behind the endpoints (`Hub`, `RoomLog`) are filled with small parts that
remember what they were told; everything else is the product's.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp, Scope, Send

from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from gateway.api.admission import Admission
from gateway.api.hub import Services
from gateway.app import create_app
from gateway.live.readiness import Others, Ready, judge
from gateway.server.configuration import server_config
from tests import patience

_address = itertools.count(1)


class RecordingHub:
    """Sockets and actors, as far as an endpoint can tell."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.started = self.drained = False
        self.closed: list[tuple[str, int]] = []
        self.parts = {"ray": True, "valkey": True}
        self.others: Others | None = {}
        self.error: Exception | None = None

    async def start(self) -> None:
        self.started = True

    async def serve(self, admission: Admission, scope: Scope, send: Send) -> None:
        raise AssertionError("endpoints alone are tested here")

    async def presence_update(self, user_id: str, status: str) -> None:
        if self.error is not None:
            raise self.error
        key = keys.presence(user_id)
        if status == "offline":
            await self.services.kv.ask("DEL", key)
        else:
            await self.services.kv.ask("HSET", key, "status", status)

    async def close_login(self, login_id: str, code: int, reason: str) -> None:
        self.closed.append((login_id, code))

    def ready(self) -> Ready:
        return judge(self.parts, self.others)

    async def drain(self) -> None:
        self.drained = True


class ListedLog:
    """A RoomLog whose rooms are lists."""

    def __init__(self) -> None:
        self.rooms: dict[str, list[tuple[int, bytes]]] = {}
        self.mirrors: dict[str, bytes] = {}

    async def page(
        self, name: str, before: int | None, limit: int
    ) -> list[tuple[int, bytes]]:
        events = self.rooms.get(name, [])
        return [e for e in events if before is None or e[0] < before][-limit:]

    async def mirror(self, name: str) -> bytes | None:
        return self.mirrors.get(name)


class Gateway:
    """A running server and what is behind it."""

    def __init__(self, server: uvicorn.Server, port: int, app: Any) -> None:
        self.server = server
        self.port = port
        self.app = app

    @property
    def services(self) -> Services:
        return self.app.state.services

    @property
    def hub(self) -> Any:
        return self.services.hub

    @property
    def log(self) -> Any:
        return self.services.log

    def client(self, session_id: str | None = None) -> httpx2.AsyncClient:
        """Requests from an address of their own (the server trusts this proxy)."""
        n = next(_address)
        headers = {"X-Forwarded-For": f"10.0.{n // 250}.{n % 250 + 1}"}
        if session_id is not None:
            headers["Authorization"] = f"Bearer {session_id}"
        return httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers=headers,
            trust_env=False,
            verify=False,  # no TLS here; to read whom one trusts takes 40 ms
        )

    async def login(self, user_id: str) -> str:
        token, _ = await self.services.sessions.create(user_id, "uk")
        return token

    async def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes until the server ends the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with patience.within(5):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


def settings_for(valkey_url: str, **more: str) -> Settings:
    env = {
        "CFM_VALKEY_URL": valkey_url,
        "CFM_TRUSTED_PROXIES": "127.0.0.1",
        "CFM_DATA_DIR": str(Path("/nonexistent")),
        "CFM_DRAIN_S": "1",
        "CFM_BOTS_ACTIVE": "0",  # who is there and what is awake is counted
    }
    return Settings.load(env | {f"CFM_{name.upper()}": v for name, v in more.items()})


@asynccontextmanager
async def serving(app: ASGIApp, settings: Settings) -> AsyncIterator[Gateway]:
    """Any ASGI application on our server; yields once it answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, settings))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0)
        yield Gateway(server, listener.getsockname()[1], app)
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def gateway(valkey_url: str, **settings: str) -> AsyncIterator[Gateway]:
    """The whole application with recording parts behind it."""
    chosen = settings_for(valkey_url, **settings)
    app = create_app(chosen, RecordingHub, ListedLog())
    async with serving(app, chosen) as running:
        yield running


def refused(
    response: httpx2.Response, status: int, code: str, message: str | None = None
) -> str:
    """Asserts the exact shape of a refusal; returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"success", "error", "meta"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code
    if message is not None:
        assert body["error"]["message"] == message
    meta_of(response)
    return str(body["error"]["message"])


def data_of(response: httpx2.Response, status: int = 200) -> Any:
    """Asserts the exact shape of a success; returns its data."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"success", "data", "meta"}
    assert body["success"] is True
    meta_of(response)
    return body["data"]


def meta_of(response: httpx2.Response) -> dict[str, Any]:
    meta: dict[str, Any] = response.json()["meta"]
    assert set(meta) == {"timestamp", "requestId"}
    assert type(meta["timestamp"]) is int
    assert meta["requestId"] == response.headers["x-request-id"]
    return meta
