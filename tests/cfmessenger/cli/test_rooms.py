"""`cfmessenger rooms`: for people and, with `--json`, for programs."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import pytest

from cfmessenger.link.namespace import Described
from cfmessenger.placement import Own, Placement
from tests import patience
from tests.cfmessenger.cli.test_placement import found_in
from tests.gateway.node import live


async def rooms(*args: str, folder: Path, **env: str) -> list[str]:
    """What it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "rooms", *args),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **env},
    )
    async with patience.within(20):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


async def test_it_tells_where_rooms_are_and_why(
    empty_valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"room:general": Own("public", 0, 1)}
    auto = Placement("auto", 1, 1, own=own)
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", auto)
    async with live(empty_valkey) as node, found_in(tmp_path, node.namespace):
        nobody = await rooms(folder=tmp_path)
        for room in ("general", "quiet"):
            await (await node.enter("user_1", room)).say("hello")
        head, *lines = await rooms(folder=tmp_path)
        told = [
            msgspec.json.decode(line, type=Described)
            for line in await rooms("--json", folder=tmp_path)
        ]
        pid = str(os.getpid())
    assert nobody == ["No room is awake: they sleep until somebody speaks in them."]
    columns = "name actor why for process load epoch seq sockets state"
    assert head.split() == columns.split()
    general, quiet = (line.split() for line in lines if line.startswith("room:"))
    assert general[:3] == ["room:general", "room:general", "public"]
    assert quiet[:5] == ["room:quiet", "rooms:0", "–", "–", pid]
    for line in (general, quiet):
        assert line[-5] == "%" and float(line[-6]) >= 0.0
        assert line[-3:] == ["1", "1", "running"]
    by_name = {each.name: each for each in told}
    assert by_name["room:general"].why == "public"
    assert by_name["room:quiet"].actor == "rooms:0"
    assert by_name["room:quiet"].seq == 1
