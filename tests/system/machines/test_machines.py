"""The ground holds what its rows rely on: machines are apart and end as one.

`make machines-smoke` plays a few rows too, for what must hold for every build.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cfmessenger.cli import process
from tests.system.machines import faults, rows
from tests.system.machines.balancer import answers, status
from tests.system.machines.machine import BOOTED_APART_S, Machine, eventually
from tests.system.machines.network import PREFIX, ROOT, Network, links, sweep
from tests.system.machines.network import unavailable as reason_against

reason = reason_against()
pytestmark = pytest.mark.skipif(bool(reason), reason=reason or "-")
smoke = pytest.mark.skipif(
    not os.environ.get("MACHINES"), reason="takes minutes: make machines-smoke"
)

_LEFT_BEHIND = """
import asyncio, pathlib, signal, tempfile
from tests.system.machines.machine import Machine
from tests.system.machines.network import FOLDERS, Network
import os

async def begin():
    folder = tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-")
    network = Network()
    network.open()
    machine = Machine("m", 11, network, pathlib.Path(folder))
    await machine.open()
    print(machine.init, folder, flush=True)
    signal.pause()

asyncio.run(begin())
"""


@pytest.fixture
def network() -> Iterator[Network]:
    sweep()
    made = Network()
    made.open()
    yield made
    made.close()


@pytest.fixture
async def machine(network: Network, tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine("m", 11, network, tmp_path)
    await made.open()
    yield made
    made.kill()


async def serving(machine: Machine, port: int) -> None:
    """An HTTP server in it, which answers."""
    command = [sys.executable, "-m", "http.server", str(port)]
    machine.start(f"http-{port}", command, os.environ)
    await answers(machine.address, port, "/")


async def test_a_machine_sees_only_its_own_processes_files_and_address(
    machine: Machine,
) -> None:
    assert machine.call("ls", "-A", "/tmp").split() == []
    assert machine.call("ls", "-A", "/dev/shm").split() == []
    seen = machine.call("sh", "-c", "echo /proc/[0-9]*").split()
    assert len(seen) <= 3, "the first process, who asks, and who asked for that"
    assert machine.address in machine.call("ip", "addr")


@pytest.mark.skipif(
    not Path("/proc/self/ns/time").exists(), reason="no namespaces of time"
)
async def test_machines_did_not_boot_at_the_same_moment(machine: Machine) -> None:
    here = time.clock_gettime(time.CLOCK_BOOTTIME)
    there = float(machine.call("cat", "/proc/uptime").split()[0])
    assert there - here == pytest.approx(machine.number * BOOTED_APART_S, abs=60.0)


async def test_who_is_cut_off_is_silent_until_healed(machine: Machine) -> None:
    await serving(machine, 8000)
    faults.cut(machine)
    assert await status(machine.address, 8000, "/") == 0
    faults.heal(machine)
    assert await status(machine.address, 8000, "/") == 200


@pytest.mark.skipif(shutil.which("nft") is None, reason="not installed: nft")
async def test_a_black_hole_takes_one_port_and_no_other(machine: Machine) -> None:
    await serving(machine, 8000)
    await serving(machine, 8001)
    faults.black_hole(machine, 8000)
    assert await status(machine.address, 8000, "/") == 0
    assert await status(machine.address, 8001, "/") == 200
    faults.heal(machine)
    assert await status(machine.address, 8000, "/") == 200


async def test_all_of_a_machine_ends_at_once_and_it_can_begin_again(
    machine: Machine,
) -> None:
    orphan = "(setsid sleep 1001 &) ; echo begun; exec sleep 1001"
    await machine.start("orphan", ["sh", "-c", orphan], os.environ).ready("begun")
    await eventually(lambda: faults.matching(machine, "sleep 1001"), 5.0)
    found = list(machine.processes())
    machine.kill()
    assert process.wait_gone(found, 5.0) == []
    await machine.open()
    assert not faults.matching(machine, "sleep 1001")


async def test_a_process_that_ends_before_it_serves_is_told_with_its_log(
    machine: Machine,
) -> None:
    started = machine.start("broken", ["sh", "-c", "echo no luck"], os.environ)
    with pytest.raises(AssertionError, match="no luck"):
        await started.ready("serves")


async def test_told_to_end_is_who_runs_in_the_machine(machine: Machine) -> None:
    says = "trap 'echo asked; exit' TERM; echo waits; while :; do sleep 0.05; done"
    started = machine.start("asked", ["sh", "-c", says], os.environ)
    await started.ready("waits")
    await faults.term(started)
    assert started.said("asked")


async def test_what_was_said_before_is_not_said_again(machine: Machine) -> None:
    says = ["sh", "-c", "echo serves; exec sleep 1003"]
    await machine.start("one", says, os.environ).ready("serves")
    await faults.term(machine.started["one"])
    silent = machine.start(
        "one", ["sh", "-c", "echo asks; exec sleep 1004"], os.environ
    )
    await silent.ready("asks")
    assert not silent.said("serves")


async def test_the_dead_are_collected_so_that_nobody_waits_for_them(
    machine: Machine,
) -> None:
    orphan = "(sleep 1002 & echo begun)"
    await machine.start("parent", ["sh", "-c", orphan], os.environ).gone()
    (row,) = faults.matching(machine, "sleep 1002")
    process.send(row, signal.SIGKILL)
    await eventually(lambda: process.entry(row.pid) is None, 5.0)


def test_what_a_killed_run_left_does_not_trip_the_next() -> None:
    command = [sys.executable, "-c", _LEFT_BEHIND]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        init, folder = run.stdout.readline().decode().split()
        row = process.entry(int(init))
        assert row is not None
        run.kill()
    assert process.wait_gone([row], 5.0) == [], "the machine lives on"
    assert f"{PREFIX}{run.pid}" in sweep()
    assert not Path(folder).exists()
    assert not [link for link in links() if link["ifname"].startswith(f"cfm{run.pid}")]


@smoke
@pytest.mark.cluster
@pytest.mark.parametrize("name", ["calm", "sigterm_node", "kill9_node", "cut_30s"])
async def test_nobody_loses_doubles_or_reorders_what_was_acknowledged(
    name: str,
) -> None:
    played = await rows.row(name)
    result = played.figures.result
    assert result.counts["acked"] > 1000
    assert played.theirs, "nobody was hit"
    assert not any(played.verdict._replace(unseen=0)), result.oracle.examples
