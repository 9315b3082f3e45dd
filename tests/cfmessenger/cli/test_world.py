"""What a start finds amiss in the world is told in one sentence, without secrets."""

import asyncio
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfmessenger.cli import world
from cfmessenger.cli.world import ADVICE, Absent, check, place
from cfmessenger.environment import SettingsError
from cfmessenger.settings import Settings
from tests.gateway.node import OwnValkey, own_valkey
from tests.valkey_cluster import ValkeyCluster, own_valkey_cluster

SECRET = "s3cr3t"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "PATIENCE_S", 0.0)


@pytest.fixture
def nobody() -> str:
    """host:port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def stranger() -> Iterator[str]:
    """host:port of one who speaks another protocol, and answers before it is asked."""

    class Speaks(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"220 mail.example ESMTP\r\n")
            self.request.recv(1024)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Speaks) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def _settings(**env: str) -> Settings:
    return Settings.load(env)


async def sentence(**env: str) -> str:
    with pytest.raises(Absent) as caught:
        await check(_settings(**env))
    text = str(caught.value)
    assert SECRET not in text and "\n" not in text
    return text


async def test_valkey_that_nobody_answers(nobody: str, impatient: None) -> None:
    url = f"valkey://cfm:{SECRET}@{nobody}/0"
    assert await sentence(CFM_VALKEY_URL=url) == (
        f"CFM_VALKEY_URL: valkey://{nobody} does not answer: "
        f"Connection refused ({ADVICE})"
    )


async def test_a_valkey_that_begins_later_is_waited_for() -> None:
    with tempfile.TemporaryDirectory(prefix="cfm-own-") as folder:
        server = OwnValkey(Path(folder))
        asked = asyncio.create_task(check(_settings(CFM_VALKEY_URL=server.url)))
        done, _ = await asyncio.wait((asked,), timeout=0.3)
        assert not done
        server.start()
        try:
            await asked
        finally:
            server.kill()


async def test_something_that_is_no_valkey(stranger: str, impatient: None) -> None:
    text = await sentence(CFM_VALKEY_URL=f"valkey://cfm:{SECRET}@{stranger}")
    assert text.startswith(f"CFM_VALKEY_URL: valkey://{stranger} does not answer")


async def test_tls_where_there_is_none(stranger: str, impatient: None) -> None:
    text = await sentence(CFM_VALKEY_URL=f"valkeys://cfm:{SECRET}@{stranger}")
    assert f"valkeys://{stranger} does not speak TLS as we do: " in text


async def test_a_wrong_password(valkey_url: str) -> None:
    path = valkey_url.partition("@")[2]
    text = await sentence(CFM_VALKEY_URL=f"unix://cfm:{SECRET}@{path}")
    assert text.startswith(f"CFM_VALKEY_URL: unix://{path} does not let us in: ")


async def test_a_server_that_is_too_old(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfmessenger.storage.valkey.OLDEST_MAJOR", 99)
    text = await sentence(CFM_VALKEY_URL=valkey_url)
    assert "Valkey 99 or newer is needed, found " in text


async def test_a_replica_where_its_primary_is_needed() -> None:
    with own_valkey() as server:
        await check(_settings(CFM_VALKEY_URL=server.url))
        _follow(server)
        text = await sentence(CFM_VALKEY_URL=server.url)
        assert text.endswith("is a replica: name its primary")


async def test_a_server_that_forgets_by_itself() -> None:
    with own_valkey() as server:
        await server.answers()
        with server.admin() as client:
            client.config_set("maxmemory-policy", "volatile-lru")
        text = await sentence(CFM_VALKEY_URL=server.url)
        assert text.endswith(
            "may throw messages away (volatile-lru): set maxmemory-policy noeviction"
        )


def _follow(server: OwnValkey) -> None:
    with server.admin() as client:
        client.replicaof("127.0.0.1", "1")


async def test_ray_that_nobody_answers(nobody: str, valkey_url: str) -> None:
    text = await sentence(CFM_VALKEY_URL=valkey_url, CFM_RAY_ADDRESS=nobody)
    assert (
        text
        == f"CFM_RAY_ADDRESS: {nobody} does not answer: Connection refused ({ADVICE})"
    )


async def test_a_database_that_nobody_answers(nobody: str) -> None:
    url = f"postgresql://cfm:{SECRET}@{nobody}/x"
    text = await sentence(CFM_DATABASE_URL=url)
    assert text == (
        f"CFM_DATABASE_URL: postgresql://{nobody} does not answer: "
        f"Connection refused ({ADVICE})"
    )


async def test_users_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="^CFM_USERS: expected a readable file"):
        await check(_settings(CFM_USERS=str(tmp_path / "none")))


async def test_a_valkey_cluster_is_asked_server_by_server(
    valkey_cluster: ValkeyCluster, nobody: str, impatient: None
) -> None:
    await check(Settings.load({"CFM_VALKEY_URL": valkey_cluster.url}))
    url = f"valkey-cluster://cfm:hush@{nobody}"
    with pytest.raises(Absent) as caught:
        await check(Settings.load({"CFM_VALKEY_URL": url}))
    assert str(caught.value).startswith(f"CFM_VALKEY_URL: valkey://{nobody} does not")
    assert "hush" not in str(caught.value)


async def test_one_server_is_no_valkey_cluster(impatient: None) -> None:
    with own_valkey_cluster(shards=1) as alone:
        port = alone.primaries[0].port
        wrong = f"valkey-cluster://cfm:wrong@127.0.0.1:{port}"
        with pytest.raises(Absent, match="does not let us in"):
            await check(Settings.load({"CFM_VALKEY_URL": wrong}))


def test_the_place_of_a_cluster_holds_no_secret() -> None:
    url = "valkeys-cluster://u:hush@h:1,[fd00::1]:2?password=hush"
    assert place(url) == "valkeys://h:1,valkeys://[fd00::1]:2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("valkey://a:b@h:1/0?x=b", "valkey://h:1"),
        ("valkeys://a:b@[::1]:1", "valkeys://[::1]:1"),
        ("unix://a:b@/run/s?db=1", "unix:///run/s"),
        ("sqlite:////data/x?y=b", "sqlite:////data/x"),
    ],
)
def test_a_place_holds_no_secret(url: str, expected: str) -> None:
    assert place(url) == expected
