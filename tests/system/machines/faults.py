"""What is done to machines, each a function.

Lines are cut by taking them off the bridge, single ports by nftables in the machine's
own network namespace, processes by signals. Clocks are no fault here: a machine's
monotonic clock is set apart from the others' before its first process and never again,
and the time of day has no namespace.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping

from cfmessenger.cli import process
from tests.system.machines.machine import GONE_S, Machine, Started

DEADLINE_S = 60

_RULES = """
table inet cfm {{
  chain in {{ type filter hook input priority 0; tcp dport {port} drop; }}
  chain out {{ type filter hook output priority 0; tcp sport {port} drop; }}
}}
"""


async def ray_drain(machine: Machine, node: str, env: Mapping[str, str]) -> None:
    """Tell Ray that this node of its, which this machine is, is to be ended: as its
    autoscaler does, and whoever gets word that the machine will be taken away."""
    (raylet,) = matching(machine, "raylet/raylet")
    said = machine.processes()[raylet]
    address = said.partition("--gcs-address=")[2].split()[0]
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    command += [f"--address={address}", f"--node-id={node}"]
    command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away"]
    command += [f"--deadline-remaining-seconds={DEADLINE_S}"]
    await machine.start("drain-node", command, env).gone(60.0)


async def term(*processes: Started) -> None:
    """Tell them to end, all at once, and wait until they have."""
    for each in processes:
        each.signal(signal.SIGTERM)
    for each in processes:
        await each.gone(60.0)


def kill9(machine: Machine) -> int:
    """Kill the machine's raylet and every actor; the number of processes."""
    found = matching(machine, "raylet/raylet", "ray::")
    for row in found:
        process.send(row, signal.SIGKILL)
    assert not process.wait_gone(found, GONE_S)
    return len(found)


def matching(machine: Machine, *words: str) -> list[process.Entry]:
    """The machine's processes whose command line or title has one of these."""
    found = machine.processes().items()
    return [row for row, said in found if any(word in said for word in words)]


def freeze(machine: Machine, *words: str) -> list[process.Entry]:
    """Stop these where they are; `thaw` lets them go on."""
    found = matching(machine, *words)
    assert found, (words, machine.processes())
    for row in found:
        process.send(row, signal.SIGSTOP)
    return found


def thaw(found: list[process.Entry]) -> None:
    """Let them go on."""
    for row in found:
        process.send(row, signal.SIGCONT)


def cut(machine: Machine) -> None:
    """No packet leaves it or reaches it, and nobody is told."""
    machine.network.unplug(machine.number)


def heal(machine: Machine) -> None:
    """The line is there again, and so are its ports."""
    machine.network.replug(machine.number)
    if "table inet cfm" in machine.call("nft", "list", "tables"):
        machine.call("nft", "delete", "table", "inet", "cfm")


def black_hole(machine: Machine, port: int) -> None:
    """Packets for this port of the machine, and from it, are dropped in silence."""
    machine.call("nft", _RULES.format(port=port))
