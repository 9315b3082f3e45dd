"""A Valkey Cluster over TLS: every server of it, those that are heard of later too.

stunnel speaks TLS in front of each, and each announces its tunnel to clients.
"""

import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cfmessenger.cli import world
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.log import Commit, ValkeyLog
from tests import patience
from tests.gateway.node import eventually
from tests.replicated import free_port
from tests.system.security.test_storage_tls import Authority, refused, stunnel
from tests.valkey_cluster import PASSWORD, Node, ValkeyCluster, own_valkey_cluster

pytestmark = pytest.mark.skipif(
    not (shutil.which("stunnel4") and shutil.which("openssl")),
    reason="needs stunnel4 and openssl",
)
CHANNEL = keys.gateway_channel("g1")


class Scene:
    """A cluster behind TLS. `folder` has the certificates, `tunnels` the ports."""

    def __init__(self, folder: Path, cluster: ValkeyCluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.tunnels = {node.port: free_port() for node in cluster.nodes}

    async def announce(self, host: str = "") -> None:
        """Every server sends clients to the tunnels of all."""
        for node in self.cluster.nodes:
            node.announce(self.tunnels[node.port], host)

        async def heard() -> bool:
            return all(map(self._announced, self.cluster.nodes))

        await eventually(heard, within=10)

    def _announced(self, node: Node) -> bool:
        """Whether it has heard of all that."""
        told = {each[1] for row in node.do("CLUSTER", "SLOTS") for each in row[2:]}
        return told == set(self.tunnels.values())

    def settings(self, host: str) -> Settings:
        """As an operator writes them."""
        hosts = ",".join(
            f"{host}:{self.tunnels[node.port]}" for node in self.cluster.nodes[:2]
        )
        env = {
            "CFM_VALKEY_URL": f"valkeys-cluster://cfm:{PASSWORD}@{hosts}",
            "CFM_VALKEY_CA": f"{self.folder}/ca.pem",
            "CFM_VALKEY_CERT": f"{self.folder}/client.pem",
            "CFM_VALKEY_KEY": f"{self.folder}/client.key",
        }
        return Settings.load(env)

    def log(self, host: str) -> ValkeyLog:
        url = self.settings(host).valkey_url
        assert url is not None
        return ValkeyLog(url, 1000)

    def names(self) -> list[str]:
        """Of three objects, each on a primary of its own."""
        found: dict[int, str] = {}
        for n in range(100):
            owner = self.cluster.owner(keys.log(f"room:{n}"))
            found.setdefault(owner.port, f"room:{n}")
        assert len(found) == len(self.cluster.primaries)
        return list(found.values())


@pytest.fixture
def cluster() -> Iterator[ValkeyCluster]:
    with own_valkey_cluster(replicas=1) as cluster:
        yield cluster


@pytest.fixture
async def scene(cluster: ValkeyCluster) -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="cfm-tls-") as name:
        scene = Scene(Path(name), cluster)
        authority = Authority(scene.folder)
        authority.sign("server", "DNS:localhost")
        authority.sign("client", "DNS:gateway")
        tunnels = [(at, target) for target, at in scene.tunnels.items()]
        with stunnel(scene.folder, *tunnels):
            yield scene


async def say(log: ValkeyLog, name: str, *seqs: int) -> None:
    """As a room does that has just come to life."""
    found = await log.activate(name)
    events = [(seq, b"{}") for seq in seqs]
    commit = Commit(name, found.epoch, events, found.lineage)
    assert await log.commit([commit]) == [None]


async def test_all_servers_are_reached_over_tls_and_whoever_takes_over(
    scene: Scene,
) -> None:
    await scene.announce("localhost")
    cluster, names = scene.cluster, scene.names()
    log = scene.log("localhost")
    await eventually(lambda: answers(log), within=10)
    for name in names:
        await say(log, name, 1)
    assert [len(await log.after(name, 0, 9)) for name in names] == [1, 1, 1]
    async with aclosing(log.listen("cfm:revoked", own=CHANNEL)) as heard:
        assert await anext(heard) is None  # it listens
        await log.execute([log.to_one(CHANNEL, "hello")])
        assert await anext(heard) == (CHANNEL, "hello")

    # MOVED leads to a tunnel, and so does ASK.
    moved, ahead, _ = names
    cluster.move(keys.log(moved))
    await say(log, moved, 2)
    source, target = cluster.importing(keys.log(ahead))
    cluster.migrate(source, target, keys.log(ahead))
    assert len(await log.after(ahead, 0, 9)) == 1
    assert target.stat("cmdstat_asking", "calls") > 0
    cluster.assign(source, target, keys.log(ahead))

    # Whoever takes over is one that nobody has spoken to before.
    name = names[2]
    primary = cluster.owner(keys.log(name))
    before = cluster.living_owner(keys.log(name))
    primary.kill()

    async def gone_on() -> bool:
        return cluster.living_owner(keys.log(name)) not in (None, before)

    await eventually(gone_on, within=30)
    async with patience.within(20.0):
        await say(log, name, 2)
    assert [len(await log.after(name, 0, 9)) for name in names] == [2, 1, 2]
    log.close()
    cluster.restart(primary)


async def answers(log: ValkeyLog) -> bool:
    try:
        return bool(await log.ask("EXISTS", "cfm:x") is not None)
    except Exception:
        return False


async def test_who_announces_another_name_than_is_certified_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.announce("127.0.0.1")
    log = scene.log("127.0.0.1")
    why = await refused(log)
    assert isinstance(why, ssl.SSLCertVerificationError)
    # And who starts is told so, by more than that nobody answers.
    monkeypatch.setattr(world, "PATIENCE_S", 0.0)
    with pytest.raises(world.Absent) as caught:
        await world.check(scene.settings("127.0.0.1"))
    assert "does not speak TLS as we do" in str(caught.value)
