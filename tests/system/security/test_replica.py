"""Sessions looked at again on a replica: a real second Valkey that follows the first.

The replica reaches its primary through a proxy that can hold its news back or cut it
off. Whatever happens to it, nobody who is signed in is ended, and nobody who was ended
stays for longer than a replica may be silent.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cfmessenger.accounts import sessions as module
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.errors import Unavailable
from cfmessenger.storage.valkey import Valkey
from tests.effort import long_only
from tests.gateway.node import OwnValkey, eventually, live, new_room
from tests.valkey_proxy import Proxy

TIMEOUT_S = 0.3


class Follower(OwnValkey):
    """A replica of whatever answers on a port."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.configure(f"replicaof 127.0.0.1 {port}", "masteruser admin")
        self.configure("masterauth -")

    def configure(self, *lines: str) -> None:
        with self._config.open("a") as config:
            config.writelines(f"{line}\n" for line in lines)

    def replication(self) -> dict[str, object]:
        with self.admin() as client:
            found: dict[str, object] = client.info("replication")
            return found

    @property
    def in_step(self) -> bool:
        return self.replication().get("master_link_status") == "up"


class Scene:
    """A primary, its replica, what is between them, and the product's sessions."""

    def __init__(self, primary: OwnValkey, replica: Follower, line: Proxy) -> None:
        self.primary = primary
        self.replica = replica
        self.line = line
        self.kv = Valkey(primary.url, timeout_s=TIMEOUT_S)
        self.copy = Valkey(replica.url, timeout_s=TIMEOUT_S)
        self.sessions = Sessions(self.kv, ttl_s=1200, replica=self.copy)

    async def arrived(self) -> None:
        """Everything so far is on the replica."""
        with self.primary.admin() as admin:
            admin.set("arrived", "1")  # WAIT is about what its own connection wrote
            assert await asyncio.to_thread(admin.wait, 1, 5000) == 1

    async def aclose(self) -> None:
        for client in (self.kv, self.copy):
            client.close()


def _made(folder: str, name: str) -> Path:
    made = Path(folder, name)
    made.mkdir()
    return made


@asynccontextmanager
async def replicated() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="cfm-pair-") as folder:
        primary = OwnValkey(_made(folder, "one"))
        with primary._config.open("a") as config:
            config.write("repl-diskless-sync-delay 0\n")
        line = Proxy(primary.url, Path(folder, "unused"))
        listener = await asyncio.start_server(line.serve, "127.0.0.1", 0)
        replica = Follower(_made(folder, "two"), listener.sockets[0].getsockname()[1])
        try:
            await primary.start().answers()
            await replica.start().answers()
            await eventually(lambda: replica.in_step, within=10)
            scene = Scene(primary, replica, line)
            yield scene
            await scene.aclose()
        finally:
            listener.close()
            await line.close()
            for server in (replica, primary):
                server.kill()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with replicated() as made:
        yield made


async def test_s4_a_replica_in_step_is_asked_instead_of_the_primary(
    scene: Scene,
) -> None:
    _, session = await scene.sessions.create("user_1", "uk")
    await scene.arrived()
    scene.primary.freeze()
    try:
        found = await scene.sessions.revalidate([session])
    finally:
        scene.primary.thaw()
    assert found == {session.login_id: session}


async def test_s4_a_replica_that_lags_ends_nobody(scene: Scene) -> None:
    _, early = await scene.sessions.create("user_1", "uk")
    await scene.arrived()
    scene.line.stall()
    _, late = await scene.sessions.create("user_2", "uk")
    longer = msgspec.structs.replace(early, expires_at=early.expires_at + 1)
    assert scene.replica.in_step
    # One it has never heard of, and one whose prolongation it has not heard of.
    found = await scene.sessions.revalidate([late, longer])
    assert found == {late.login_id: late, early.login_id: longer}


async def test_s4_a_silent_replica_keeps_no_ended_session_alive(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REPLICA_SILENCE_S", 0)
    _, ended = await scene.sessions.create("user_1", "uk")
    _, other = await scene.sessions.create("user_2", "uk")
    await scene.arrived()
    scene.line.stall()
    await scene.sessions.logout(ended)
    await eventually(
        lambda: scene.replica.replication()["master_last_io_seconds_ago"] != 0
    )
    found = await scene.sessions.revalidate([ended, other])
    assert found == {ended.login_id: None, other.login_id: other}


async def test_s4_a_replica_that_was_cut_off_is_not_believed(scene: Scene) -> None:
    _, ended = await scene.sessions.create("user_1", "uk")
    _, other = await scene.sessions.create("user_2", "uk")
    await scene.arrived()
    scene.line.refusing = True
    scene.line.cut()
    await eventually(lambda: not scene.replica.in_step)
    await scene.sessions.logout(ended)
    found = await scene.sessions.revalidate([ended, other])
    assert found == {ended.login_id: None, other.login_id: other}


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_s4_a_replica_that_is_gone_costs_one_warning(
    scene: Scene,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, session = await scene.sessions.create("user_1", "uk")
    await scene.arrived()
    if fault == "killed":
        scene.replica.kill()
    else:
        scene.replica.freeze()
    caplog.set_level(logging.WARNING, "cfmessenger.sessions")
    for _ in range(5):
        found = await scene.sessions.revalidate([session])
        assert found == {session.login_id: session}
    said = [each for each in caplog.records if each.name == "cfmessenger.sessions"]
    assert len(said) == 1
    assert "own" not in caplog.text.split()  # the password of its URL
    if fault == "killed":
        return
    # After its rest it is asked again.
    scene.replica.thaw()
    await eventually(lambda: scene.replica.in_step)
    monkeypatch.setattr(scene.sessions, "_replica_rests_until", 0.0)
    scene.primary.freeze()
    try:
        assert await scene.sessions.revalidate([session])
    finally:
        scene.primary.thaw()


async def test_s4_without_either_nobody_is_ended(scene: Scene) -> None:
    _, session = await scene.sessions.create("user_1", "uk")
    await scene.arrived()
    scene.replica.kill()
    scene.primary.kill()
    with pytest.raises(Unavailable):
        await scene.sessions.revalidate([session])


@long_only
async def test_s4_sockets_outlive_a_replica_and_not_a_logout(scene: Scene) -> None:
    """Over whole gateways: the word of a logout is lost, and the look finds it."""
    urls = {"valkey_replica_url": scene.replica.url}
    async with live(scene.primary.url, **urls) as node:
        room = new_room()
        ended = await node.enter("user_1", room)
        other = await node.enter("user_2", room)
        services = node.gateways[0].services
        session = await services.sessions.get(ended.token)
        assert session is not None
        scene.replica.kill()
        node.hub()._logins._revalidated_at = 0.0
        await eventually(lambda: node.hub()._logins._revalidated_at)
        assert (await ended.say("still here"))["seq"] == 1
        # Deleted and not published, as if the channel had been down.
        with scene.primary.admin() as admin:
            admin.delete(f"cfm:session:{session.token_hash}")
            admin.delete("cfm:logins:user_1")
        node.hub()._logins._revalidated_at = 0.0
        assert await ended.closed() == 4500
        assert (await other.say("me too"))["seq"] == 2
