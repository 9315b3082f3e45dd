"""`cfmessenger drain`: it is done when this node has nothing left, and says so."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from tests import patience
from tests.cfmessenger.cli.test_placement import found_in
from tests.gateway.edge import settings_for


async def drain(folder: Path) -> tuple[int, str, str]:
    """Exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "drain"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
    )
    async with patience.within(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Stubborn(LocalNamespace):
    """A node of which some actors do not go."""

    left = 0

    async def drain(self) -> int:
        return self.left


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (0, (0, "This node is empty and takes no new rooms.\n", "")),
        (2, (1, "", "cfmessenger: 2 actors are still here\n")),
    ],
)
async def test_it_says_whether_the_node_is_empty(
    left: int, says: tuple[int, str, str], tmp_path: Path, valkey_url: str
) -> None:
    backend = Stubborn(HostSettings.of(settings_for(valkey_url), ()))
    backend.left = left
    async with found_in(tmp_path, backend):
        assert await drain(tmp_path) == says
    await backend.close()
