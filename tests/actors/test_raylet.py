"""A node's raylet, as the system shows it: real processes that are called as Ray's."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from actors.raylet import ACTOR_TITLE, Raylet
from tests import patience

CHILDREN = """
import subprocess, sys
titles = sys.argv[2:]
children = [
    subprocess.Popen([title, "600"], executable="/bin/sleep") for title in titles
]
print(*(each.pid for each in children), flush=True)
sys.stdin.read()
for each in children:
    each.kill()
    each.wait()
"""


@contextmanager
def raylet(socket: Path, *titles: str) -> Iterator[tuple[psutil.Popen, list[int]]]:
    """A process with a raylet's flag, and children with these titles: their ids."""
    command = [sys.executable, "-c", CHILDREN, f"--raylet_socket_name={socket}"]
    with psutil.Popen(
        [*command, *titles], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, [int(pid) for pid in process.stdout.readline().split()]
        finally:
            process.stdin.close()  # which ends it and its children


async def test_a_raylet_is_found_by_its_socket_and_seen_to_end(tmp_path: Path) -> None:
    with raylet(tmp_path / "one") as (one, _), raylet(tmp_path / "two") as (two, _):
        ended = {
            name: asyncio.create_task(Raylet(str(tmp_path / name)).ended())
            for name in ("one", "two")
        }
        two.kill()
        await patience.wait_for(ended["two"], 5)
        assert not ended["one"].done()
        one.kill()
        await patience.wait_for(ended["one"], 5)


async def test_a_raylet_that_is_gone_has_ended_and_runs_nothing(tmp_path: Path) -> None:
    with raylet(tmp_path / "one") as (process, _):
        found = Raylet(str(tmp_path / "one"))
        process.kill()
        process.wait()
    await patience.wait_for(found.ended(), 5)
    assert found.actors() == []


async def test_who_stops_watching_leaves_nothing_behind(tmp_path: Path) -> None:
    with raylet(tmp_path / "one"):
        files = psutil.Process().num_fds()
        watching = asyncio.create_task(Raylet(str(tmp_path / "one")).ended())
        await asyncio.sleep(0)
        watching.cancel()
        await asyncio.wait((watching,))
        assert psutil.Process().num_fds() == files


def test_a_raylet_that_cannot_be_seen_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no process here listens on"):
        Raylet(str(tmp_path / "none"))


def test_actors_of_ours_are_told_from_all_else_it_runs(tmp_path: Path) -> None:
    titles = (f"{ACTOR_TITLE}.address", "ray::IDLE", ACTOR_TITLE, "ray::Other")
    with raylet(tmp_path / "one", *titles) as (_, pids):
        found = Raylet(str(tmp_path / "one"))
        assert {each.pid for each in found.actors()} == {pids[0], pids[2]}
