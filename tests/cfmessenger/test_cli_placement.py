"""`cfmessenger placement` against a namespace server that is there, and one that is
not."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.host import HostSettings
from actors.local_namespace import LocalNamespace
from actors.namespace_server import NamespaceServer
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.placement import Placement
from tests import patience


async def placement(*args: str, folder: Path, **env: str) -> tuple[int, str, str]:
    """Exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "placement", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **env},
    )
    async with patience.within(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def namespace(tmp_path: Path) -> AsyncIterator[LocalNamespace]:
    """What `up` would have on this data folder."""
    runtime = RuntimeFolder(tmp_path / ".cfmessenger")
    runtime.open()
    settings = HostSettings("unix:///nowhere", 10_000, 3600.0, (0, 1), (0, 1))
    namespace = LocalNamespace(settings, Placement("dedicated", 1, 1))
    server = NamespaceServer(namespace, f"unix:{runtime.path / 'namespace.sock'}", "")
    await server.start()
    yield namespace
    await server.close()
    await namespace.close()
    runtime.remove()


async def test_it_shows_where_rooms_live(
    namespace: LocalNamespace, tmp_path: Path
) -> None:
    shown = await placement(folder=tmp_path)
    assert shown == (0, "dedicated (generation 1)\n", "")
    await namespace.place("pooled", 3)
    shown = await placement(folder=tmp_path)
    assert shown == (0, "pooled, 3 actors (generation 2)\n", "")


async def test_it_moves_rooms(namespace: LocalNamespace, tmp_path: Path) -> None:
    moved = await placement("pooled", "--size", "4", folder=tmp_path)
    assert moved == (0, "pooled, 4 actors (generation 2)\n", "")
    assert await namespace.placement() == Placement("pooled", 4, 2)
    moved = await placement("pooled", folder=tmp_path, CFM_POOL_SIZE="7")
    assert moved == (0, "pooled, 7 actors (generation 3)\n", "")
    moved = await placement("dedicated", folder=tmp_path)
    assert moved == (0, "dedicated (generation 4)\n", "")


@pytest.mark.parametrize(
    "args",
    [
        ("--size", "3"),
        ("pooled", "--size", "0"),
        ("pooled", "--size", "1001"),
        ("pooled", "--size", "many"),
        ("scattered",),
    ],
)
async def test_what_makes_no_sense_is_refused(
    namespace: LocalNamespace, tmp_path: Path, args: tuple[str, ...]
) -> None:
    code, out, err = await placement(*args, folder=tmp_path)
    assert (code, out) == (2, "")
    assert "Usage: " in err
    assert (await namespace.placement()).number == 1


async def test_without_a_messenger_it_says_so(tmp_path: Path) -> None:
    code, out, err = await placement(folder=tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("cfmessenger: ") and err.count("\n") == 1


async def test_bad_settings_exit_3(tmp_path: Path) -> None:
    code, out, err = await placement(folder=tmp_path, CFM_POOL_SIZE="0")
    assert (code, out) == (3, "")
    assert "CFM_POOL_SIZE" in err
