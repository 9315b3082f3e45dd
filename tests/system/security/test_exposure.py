"""A running messenger from outside: what its ports answer to strangers, and whether
anything it wrote holds a credential. One real `cfmessenger up` for the whole module."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.link import messages as link
from tests.effort import long_only
from tests.gateway.node import Socket, dial
from tests.system.cluster.test_up import Messenger, command

pytestmark = [long_only, pytest.mark.cluster]

PATIENCE_S = 3.0


class Running(NamedTuple):
    up: Messenger
    data: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("exposed")
    data = folder / "data"
    up = Messenger(data, CFM_GATEWAYS="2", CFM_LOG_LEVEL="debug")
    try:
        yield Running(up.wait_ready(), data)
        up.end()
    finally:
        for row in up.seen | set(process.descendants(up.popen.pid)):
            process.send(row, 9)
        up.popen.kill()
        up.popen.wait(10)
        assert up.popen.stdout is not None
        up.popen.stdout.close()
        RuntimeFolder(data).remove()


class Listener(NamedTuple):
    pid: int
    what: str
    ip: str
    port: int


def listeners(up: Messenger) -> list[Listener]:
    """Every TCP port that a process of its family listens on."""
    found = []
    for row in [*up.family(), process.entry(up.popen.pid)]:
        assert row is not None
        for each in psutil.Process(row.pid).net_connections(kind="tcp"):
            if each.status == psutil.CONN_LISTEN:
                what = command(row)[:80]
                found.append(Listener(row.pid, what, each.laddr.ip, each.laddr.port))
    return found


def exchange(ip: str, port: int, sent: bytes) -> bytes:
    """What comes back for these bytes within the patience."""
    ip = ip.removeprefix("::ffff:")
    with socket.create_connection((ip, port), PATIENCE_S) as line:
        line.settimeout(0.5)
        received = b""
        try:
            line.sendall(sent)
            while data := line.recv(65536):
                received += data
        except (TimeoutError, ConnectionError):
            pass
        return received


def _welcomes(answer: bytes) -> bool:
    try:
        found = list(link.gateway_reader().feed(answer))
    except link.BrokenLink:
        return False
    return any(isinstance(each, link.Welcome) for each in found)


# Method -> what an unauthenticated caller would gain: a list of nodes, a value of the
# cluster's store, code that runs in a worker.
RAY_CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.ActorInfoGcsService/GetAllActorInfo",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)

NO_GRPC = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def call(ip: str, port: int, method: str, token: str | None) -> grpc.StatusCode:
    ip = ip.removeprefix("::ffff:")
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{ip}:{port}", options) as channel:
        ask = channel.unary_unary(method)
        try:
            ask(b"", timeout=PATIENCE_S, metadata=metadata)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            code: Any = error
            found: grpc.StatusCode = code.code()
            return found


def test_r3_only_loopback_listens_and_only_the_gateway_is_told(
    running: Running,
) -> None:
    found = listeners(running.up)
    assert {each.ip for each in found} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    public = urlsplit(running.up.url).port
    assert {each.pid for each in found if each.port == public}
    # Ray's dashboard, its client server and the default ports of GCS and Valkey.
    assert not {each.port for each in found} & {8265, 10001, 6379}


async def test_r2_no_other_port_answers_without_a_key(running: Running) -> None:
    session = _login(running.up.url, "user_4")
    base = running.up.url.replace("http", "ws")
    tab = Socket(
        await dial(f"{base}/api/ws/room/general?sessionId={session}"), "user_4", session
    )
    await tab.wait("participants")  # so a room is awake, and listens for gateways
    token = (running.data / "ray.token").read_text().strip()
    public = urlsplit(running.up.url).port
    others = {(e.ip, e.port): e.what for e in listeners(running.up) if e.port != public}
    assert len(others) >= 3
    known, answered = set(), set()
    for (ip, port), what in others.items():
        # HTTP, Valkey's protocol, a gateway's hello with a guessed key.
        http = exchange(ip, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not http.startswith(b"HTTP/1.1 200"), what
        assert b"+PONG" not in exchange(ip, port, b"PING\r\n"), what
        hello = link.frame(link.Hello(link.VERSION, "guessed", "gA"))
        assert not _welcomes(exchange(ip, port, hello)), what
        # Ray's own calls without the token, with a wrong one, and with it.
        for method in RAY_CALLS:
            refused = call(ip, port, method, None)
            assert refused is not grpc.StatusCode.OK, (what, method)
            if refused in NO_GRPC:
                break
            if refused is grpc.StatusCode.UNAUTHENTICATED:
                known.add(port)
                wrong = call(ip, port, method, "0" * len(token))
                assert wrong is grpc.StatusCode.UNAUTHENTICATED, (what, method)
        if port in known:
            for method in RAY_CALLS[:1] + RAY_CALLS[4:5]:
                if call(ip, port, method, token) is grpc.StatusCode.OK:
                    answered.add(port)
    # That the question was the right one: somebody refused it, and with the token said
    # what it was asked for.
    assert len(known) >= 2
    assert answered
    assert (await tab.say("the room noticed nothing"))["seq"]
    await tab.close()


def test_v2_the_folders_of_sockets_and_secrets_are_ours_alone(running: Running) -> None:
    for folder in (running.up.runtime, running.data):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for secret in (running.data / "ray.token", running.up.runtime / "valkey.url"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(PATIENCE_S)
        line.connect(str(running.up.runtime / "valkey.sock"))
        for read in (
            b"XREVRANGE cfm:{placement}:log + -",
            b"HGETALL cfm:{placement}:loads",
        ):
            line.sendall(read + b"\r\n")
            assert line.recv(100).startswith(b"-NOAUTH")
        line.sendall(b"AUTH default x\r\n")
        assert line.recv(100).startswith(b"-WRONGPASS")


def _post(url: str, path: str, body: dict[str, str], token: str = "") -> Any:
    request = urllib.request.Request(
        url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())["data"]


def _login(url: str, user_id: str, turnstile: str = "any") -> str:
    body = {"userId": user_id, "token": turnstile}
    return str(_post(url, "/api/auth/login", body)["sessionId"])


def _get(url: str, token: str = "") -> tuple[str, Message]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode(), answer.headers


async def _whole_visit(url: str) -> set[str]:
    """All ways to show a session, refused and accepted; returns what was secret."""
    turnstile = "turnstile-token-of-this-very-visitor"
    token = _login(url, "user_1", turnstile)
    tickets = [_post(url, "/api/auth/ticket", {}, token)["ticket"] for _ in range(2)]
    base = url.replace("http", "ws") + "/api/ws/room/dm_user_1__user_2"
    secret = "a message that is nobody else's business"
    for query, options in (
        (f"?sessionId={token}", {}),
        (f"?ticket={tickets[0]}&userId=user_1", {}),
        ("", {"subprotocols": ["cfm.v1", f"bearer.{token}"]}),
        ("", {"additional_headers": {"Authorization": f"Bearer {token}"}}),
    ):
        tab = Socket(await dial(base + query, **options), "user_1", token)
        await tab.wait("participants")
        await tab.say(secret)
        await tab.raw('{"type":"chat","content":"' + secret)  # not JSON
        await tab.wait("error")
        await tab.close()
    tab = Socket(await dial(f"{base}?sessionId={token}"), "user_1", token)
    await tab.wait("participants")
    fresh = _post(url, "/api/auth/refresh", {}, token)["sessionId"]
    # Refused: spent, ended, contradictory.
    for query in (f"?ticket={tickets[0]}", f"?sessionId={token}&ticket={tickets[1]}"):
        with pytest.raises(Exception, match="401"):
            await dial(base + query)
    _post(url, "/api/auth/logout", {}, fresh)
    with pytest.raises(ConnectionClosed):
        while True:
            await tab.connection.send('{"type":"ping"}')
            await asyncio.sleep(0.05)
    await tab.close()
    return {turnstile, token, fresh, *tickets, secret}


async def test_s6_g2_nothing_that_was_written_holds_a_secret(running: Running) -> None:
    url = running.up.url
    secrets = await _whole_visit(url)
    own = (running.data / "ray.token").read_text().strip()
    password = (running.up.runtime / "valkey.url").read_text().split(":")[2]
    secrets |= {own, password.partition("@")[0]}
    looked_at = {"/metrics": _get(f"{url}/metrics")[0]}
    logs = [running.data.parent / "stderr", *(running.data / "logs").rglob("*")]
    logs += (running.up.runtime / "ray").rglob("*.log")
    logs += (running.up.runtime / "ray").rglob("*.out")
    logs += (running.up.runtime / "ray").rglob("*.err")
    for path in logs:
        if path.is_file():
            looked_at[str(path)] = path.read_text(errors="replace")
    everything = "".join(looked_at.values())
    assert "/api/ws/room/dm_user_1__user_2" in everything  # it is the right place
    assert '"level"' in everything
    for where, text in looked_at.items():
        for secret in secrets:
            assert secret not in text, (where, text[text.index(secret) - 200 :][:300])
    # G-3: what an operator looks for.
    for event in ("POST /api/auth/login 200", "GET /api/ws/room/dm_user_1__user_2 101"):
        assert event in everything
    assert "GET /api/ws/room/dm_user_1__user_2 401" in everything


def test_k1_no_secret_is_in_an_argument_or_an_error(running: Running) -> None:
    secrets = [
        (running.data / "ray.token").read_text().strip(),
        (running.up.runtime / "valkey.url").read_text().split(":")[2].split("@")[0],
    ]
    for row in [*running.up.family(), process.entry(running.up.popen.pid)]:
        assert row is not None
        assert not any(secret in command(row) for secret in secrets), command(row)
    for path in ("/readyz", "/healthz", "/metrics", "/api/config"):
        text, _ = _get(running.up.url + path)
        assert not any(secret in text for secret in secrets)


async def test_w4_what_people_write_is_the_bytes_they_wrote(running: Running) -> None:
    url = running.up.url
    token = _login(url, "user_5")
    base = url.replace("http", "ws") + "/api/ws/room/general"
    tab = Socket(await dial(f"{base}?sessionId={token}"), "user_5", token)
    await tab.wait("participants")
    nasty = "</script><img src=x onerror=alert(1)>&amp;\u2028\u2029'\"`${x}"
    echo = await tab.say(nasty)
    assert echo["content"] == nasty
    text, headers = _get(f"{url}/api/rooms/general/messages?limit=1", token)
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    shown = json.loads(text)["data"]["messages"]
    assert shown[-1]["content"] == nasty
    await tab.close()
