"""`cfmessenger placement` against a namespace server that is there, and one that is
not."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.namespace_server import NamespaceServer
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import ERRORS
from cfmessenger.placement import Own, Placement
from tests import patience
from tests.gateway.node import Node, live


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


@asynccontextmanager
async def found_in(folder: Path, namespace: LocalNamespace) -> AsyncIterator[None]:
    """Commands find this namespace by the data folder, as what `up` has."""
    runtime = RuntimeFolder(folder / ".cfmessenger")
    runtime.open()
    server = NamespaceServer(namespace, f"unix:{runtime.path / 'namespace.sock'}", "")
    await server.start()
    try:
        yield
    finally:
        await server.close()
        runtime.remove()


@pytest.fixture
async def namespace(tmp_path: Path) -> AsyncIterator[LocalNamespace]:
    """One that has no rooms, and that needs no storage."""
    settings = HostSettings("unix:///nowhere", 10_000, 3600.0, (0, 1), (0, 1))
    namespace = LocalNamespace(settings, Placement("dedicated", 1, 1))
    async with found_in(tmp_path, namespace):
        yield namespace
    await namespace.close()


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
    moved = await placement("auto", "--size", "2", folder=tmp_path)
    assert moved == (0, "auto, 2 actors (generation 5)\n", "")
    assert await namespace.placement() == Placement("auto", 2, 5)


GENERAL = {"room:general": Own("public", 0, 1)}


@pytest.fixture
async def node(
    empty_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Node]:
    """A messenger in which rooms find their place, on this data folder."""
    auto = Placement("auto", 2, 1, own=GENERAL)
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", auto)
    async with live(empty_valkey) as node, found_in(tmp_path, node.namespace):
        yield node


async def test_exceptions_are_shown_with_their_process(
    node: Node, tmp_path: Path
) -> None:
    shown = await placement(folder=tmp_path)
    lines = shown[1].splitlines()
    assert lines[0] == "auto, 2 actors (generation 1)"
    assert lines[-1].split()[:2] == ["room:general", "public"]
    assert lines[-1].split()[-1] == "asleep"
    await (await node.enter("user_1", "general")).say("hello")
    shown = await placement(folder=tmp_path)
    pid = (await node.described())["room:general"].pid
    assert re.search(rf"^room:general +public .* \d+\.\d % +{pid} *$", shown[1], re.M)


async def test_a_room_is_pinned_and_unpinned(node: Node, tmp_path: Path) -> None:
    pinned = await placement("pin", "quiet", folder=tmp_path)
    assert pinned == (0, "room:quiet is pinned (generation 2)\n", "")
    again = await placement("pin", "room:quiet", folder=tmp_path)
    assert again == pinned
    assert (await node.namespace.placement()).why("room:quiet") == "pinned"
    code, out, _ = await placement(folder=tmp_path)
    assert code == 0 and re.search(r"^room:quiet +pinned ", out, re.M)
    gone = await placement("unpin", "quiet", folder=tmp_path)
    assert gone == (0, "room:quiet is not pinned any more (generation 3)\n", "")
    assert (await node.namespace.placement()).why("room:quiet") is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pin", "general"), "room:general has its own actor already: it is public."),
        (("unpin", "general"), "room:general is not pinned."),
        (("unpin", "room:quiet"), "room:quiet is not pinned."),
        (("pin", "presence:global"), ERRORS["INVALID_ROOM_ID"].message),
        (("pin", "system_room"), ERRORS["ROOM_RESERVED"].message),
    ],
)
async def test_what_cannot_be_pinned_or_unpinned_is_told_in_a_line(
    node: Node, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    refused = await placement(*args, folder=tmp_path)
    assert refused == (1, "", f"cfmessenger: {said}\n")
    assert (await node.namespace.placement()).number == 1


async def test_a_pin_that_does_not_count_yet_says_so(
    node: Node, tmp_path: Path
) -> None:
    await node.namespace.place("pooled", 2)
    code, out, _ = await placement("pin", "quiet", folder=tmp_path)
    assert code == 0 and "; it counts in auto, this is pooled (" in out
    _, out, _ = await placement(folder=tmp_path)
    assert "again in auto:" in out


@pytest.mark.parametrize(
    "args",
    [
        ("--size", "3"),
        ("pooled", "--size", "0"),
        ("pooled", "--size", "1001"),
        ("pooled", "--size", "many"),
        ("scattered",),
        ("pin",),
        ("unpin",),
        ("pin", "general", "--size", "3"),
        ("auto", "general"),
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
