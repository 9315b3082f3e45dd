"""Whoever listens on the bridge: that it hears, and with TLS hears nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machines import trust
from tests.system.machines.balancer import answers
from tests.system.machines.machine import Machine
from tests.system.machines.network import Network, sweep
from tests.system.machines.network import unavailable as reason_against
from tests.system.machines.trust import MISSING, Listener, trusted

reason = reason_against() or (f"not installed: {', '.join(MISSING)}" if MISSING else "")
pytestmark = pytest.mark.skipif(bool(reason), reason=reason or "-")


@pytest.fixture
def network() -> Iterator[Network]:
    sweep()
    made = Network()
    made.open()
    yield made
    made.close()


async def test_who_listens_hears_what_is_said_in_clear_text(
    network: Network, tmp_path: Path
) -> None:
    machine = Machine("m", 11, network, tmp_path)
    await machine.open()
    try:
        command = [sys.executable, "-m", "http.server", "8001"]
        machine.start("http", command, os.environ)
        await answers(machine.address, 8001, "/")
        listener = Listener(network, [11])
        listener.begin()
        reader, writer = await asyncio.open_connection(machine.address, 8001)
        for half in (b"GET /sesa", b"me HTTP/1.0\r\n\r\n"):  # in two segments
            writer.write(half)
            await writer.drain()
        assert b"404" in await reader.readline()
        writer.close()
        heard = listener.end([b"sesame", b"nobody says this"])
        assert set(heard.inside) == {b"sesame"}
        assert all(8001 in ports for ports in heard.inside[b"sesame"])
        assert not heard.missed and not heard.edge
    finally:
        machine.kill()


def test_what_ray_writes_is_told_from_what_we_do(tmp_path: Path) -> None:
    class Folder:
        def path(self, inside: str) -> Path:
            return tmp_path

    commands = [[b"SET", b"cfm:a", b"ours"], [b"HSET", b"RAY:x", b"f", b"*1\r\ntheirs"]]
    with (tmp_path / "one.aof").open("wb") as file:
        for words in [[b"SELECT", b"0"], *commands]:
            file.write(b"*%d\r\n" % len(words))
            for word in words:
                file.write(b"$%d\r\n%b\r\n" % (len(word), word))
    found = trust.ray_words(Folder())  # type: ignore[arg-type]
    assert b"theirs" in found and b"ours" not in found


@pytest.mark.skipif(
    not os.environ.get("MACHINES"), reason="takes minutes: make machines-smoke"
)
@pytest.mark.cluster
async def test_between_machines_with_certificates_nothing_is_heard() -> None:
    assert "secrets none heard" in await trusted()
