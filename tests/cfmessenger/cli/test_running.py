"""How commands find the messenger that runs here."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.namespace_server import NamespaceServer
from cfmessenger.cli import running
from cfmessenger.cli.running import (
    namespace_at,
    namespace_of,
    server_url,
    serving_pid,
    url_of,
    valkey_of,
)
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage.members import Members, Node
from cfmessenger.storage.valkey import Valkey
from tests.cfmessenger.cli.test_rooms import rooms
from tests.gateway.node import live


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `up` leaves, on a data folder that the environment names."""
    for name in ("CFM_HOST", "CFM_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CFM_DATA_DIR", str(tmp_path))
    runtime = RuntimeFolder(tmp_path)
    runtime.open()
    yield runtime.path
    runtime.remove()


def test_a_server_is_where_it_is_said_or_where_it_runs_or_where_it_would(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server_url() == "http://127.0.0.1:8000"
    (runtime / running.SERVER_FILE).write_text("http://127.0.0.1:4711")
    assert server_url() == "http://127.0.0.1:4711"
    monkeypatch.setenv("CFM_PORT", "9000")
    assert server_url() == "http://127.0.0.1:9000"
    monkeypatch.delenv("CFM_PORT")
    monkeypatch.setenv("CFM_HOST", "::1")
    assert server_url() == "http://[::1]:8000"


def test_who_began_the_messenger_is_who_holds_its_data_folder(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert serving_pid() is None
    (tmp_path / "lock").touch()
    assert serving_pid() is None
    wait = "import sys; lock = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", wait, str(tmp_path / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout is not None
        holder.stdout.readline()
        assert serving_pid() == holder.pid
        monkeypatch.setenv("CFM_PORT", "9000")
        assert serving_pid() is None, "that is somewhere else"
        holder.communicate()


def test_what_listens_everywhere_is_reached_here() -> None:
    assert url_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert url_of("::", 80) == "http://[::1]:80"


def test_valkey_and_namespace_are_found_or_the_folder_is_named(
    runtime: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    for find in (valkey_of, namespace_at):
        with pytest.raises(Unavailable) as missing:
            find(settings)
        assert missing.value.message == (
            f"No messenger runs on {tmp_path}; --cluster names one elsewhere, by its "
            "Valkey's URL."
        )
    (runtime / running.VALKEY_FILE).write_text("unix:///v\n")
    (runtime / running.NAMESPACE_SOCKET).touch()
    assert valkey_of(settings) == "unix:///v"
    assert namespace_at(settings) == f"unix:{runtime}/namespace.sock"
    named = Settings(data_dir=tmp_path / "no", valkey_url="valkey://h")
    assert valkey_of(named) == "valkey://h"
    named = Settings(data_dir=tmp_path, valkey_url="valkey://h", cluster="valkey://c")
    assert valkey_of(named) == "valkey://c"
    # A server by TCP says nothing of where its Valkey is.
    named = Settings(data_dir=tmp_path, valkey_url="valkey://h", cluster="tcp://n:1")
    assert valkey_of(named) == "valkey://h"


@pytest.mark.parametrize("role", running.FOLDERS)
def test_a_role_is_found_below_the_data_folder(role: str, tmp_path: Path) -> None:
    folder = RuntimeFolder(tmp_path / role)
    folder.open()
    (folder.path / running.NAMESPACE_SOCKET).touch()
    found = namespace_at(Settings(data_dir=tmp_path))
    folder.remove()
    assert found == f"unix:{folder.path}/namespace.sock"


async def test_a_server_by_tcp_needs_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, cluster="tcp://127.0.0.1:1")
    monkeypatch.delenv(running.NAMESPACE_KEY, raising=False)
    with pytest.raises(Unavailable, match="a server by TCP needs its key"):
        await namespace_of(settings)
    monkeypatch.setenv(running.NAMESPACE_KEY, "key")
    await (await namespace_of(settings)).close()


async def test_a_cluster_is_asked_by_its_valkey_with_the_key_of_its_secret(
    empty_valkey: str, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="No messenger runs on"):
        await namespace_of(Settings(data_dir=tmp_path))
    kv = Valkey(empty_valkey)
    members = Members(kv)
    key = running.namespace_key(await members.secret())
    async with live(empty_valkey, alone=True) as node:
        url = f"unix:{tmp_path}/ns"
        server = NamespaceServer(node.namespace, url, key)
        await server.start()
        await members.say(Node("n1", "host", url))
        for setting in ("CFM_CLUSTER", "CFM_VALKEY_URL"):
            assert await rooms(folder=tmp_path, **{setting: empty_valkey}) == [
                "No room is awake: they sleep until somebody speaks in them."
            ]
        await server.close()
    kv.close()
    await asyncio.sleep(0)  # the transport closes in the loop's next turn
