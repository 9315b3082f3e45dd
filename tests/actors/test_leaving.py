"""A node's actors are asked at their doors to leave: processes, called as Ray's are."""

import asyncio
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from actors import leaving
from actors.leaving import Door, leave
from actors.raylet import ACTOR_TITLE, Raylet
from tests import patience

RAYLET = """
import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are collected
title, *scripts = sys.argv[2:]
found = [
    subprocess.Popen([title, "-c", each, sys.argv[1].partition("=")[2]],
                     executable=sys.executable)
    for each in scripts
]
sys.stdin.read()
for each in found:
    each.kill()
    each.wait()
"""

# Each says in a file what became of it.
ACTOR = """
import asyncio, os, signal, sys
from pathlib import Path
from actors.leaving import Door

here = Path(sys.argv[1]).parent

def note(what):
    (here / f"{what}-{os.getpid()}").touch()

def ended(*_):
    note("ended")
    os._exit(0)

signal.signal(signal.SIGTERM, ended)

async def leave():
    %s
    note("asleep")
    door.close()
    gone.set()

async def main():
    global door, gone
    gone = asyncio.Event()
    door = Door(sys.argv[1], leave)
    await door.open()
    note("ready")
    await gone.wait()
    os._exit(0)

asyncio.run(main())
"""
WILLING = ACTOR % "pass"
NEVER = ACTOR % "await asyncio.Event().wait()"
DOORLESS = WILLING.replace("await door.open()", "pass")

Node = Callable[..., Awaitable[Raylet]]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A raylet with these actors, when all are ready."""
    async with AsyncExitStack() as stack:

        async def begin(*scripts: str) -> Raylet:
            path = tmp_path / "raylet"
            parent = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", RAYLET, f"--raylet_socket_name={path}"),
                *(ACTOR_TITLE, *scripts),
                stdin=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            stack.push_async_callback(parent.wait)
            assert parent.stdin is not None
            stack.callback(parent.stdin.close)  # which ends it and its children
            async with patience.within(30):
                while len(found(tmp_path, "ready")) < len(scripts):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            return Raylet(str(path))

        yield begin


def found(folder: Path, what: str) -> set[int]:
    return {int(each.name.rpartition("-")[2]) for each in folder.glob(f"{what}-*")}


async def test_all_are_asked_and_nobody_is_ended(
    node: Node,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "AT_ONCE", 2)
    raylet = await node(WILLING, WILLING, WILLING)
    pids = {each.pid for each in raylet.actors()}
    assert len(pids) == 3
    assert await leave(raylet, 30.0) == 0
    assert found(tmp_path, "asleep") == pids
    assert found(tmp_path, "ended") == found(tmp_path, "at") == set()


async def test_who_does_not_fall_asleep_or_has_no_door_is_ended_all_the_same(
    node: Node,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "ASLEEP_S", 0.1)
    monkeypatch.setattr(leaving, "GONE_S", 0.1)
    raylet = await node(NEVER, DOORLESS, WILLING)
    pids = {each.pid for each in raylet.actors()}
    assert await leave(raylet, 30.0) == 0
    assert len(found(tmp_path, "asleep")) == 1
    assert found(tmp_path, "asleep") | found(tmp_path, "ended") == pids


async def test_an_actor_that_nothing_ends_is_counted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "GONE_S", 0.1)
    deaf = DOORLESS.replace("signal.SIGTERM, ended", "signal.SIGTERM, signal.SIG_IGN")
    raylet = await node(deaf)
    assert await leave(raylet, 0.2) == 1


async def test_a_door_is_its_own_users_and_takes_the_place_of_one_that_was_left(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()

    async def told() -> None:
        asked.set()

    raylet = tmp_path / "raylet"
    path = leaving._door(raylet, os.getpid())
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    door = Door(str(raylet), told)
    await door.open()
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(str(path))
    assert await patience.wait_for(reader.read(), 5) == b""
    assert asked.is_set()
    writer.close()
    door.close()
    assert os.listdir(tmp_path) == []


def test_the_path_of_a_door_is_no_longer_than_rays_own(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert len(leaving._door(tmp_path, most).name) <= len("plasma_store")
