"""The bridge that machines are on, and whether this host can have one.

Owns the names of what is made outside of machines: all carry this process's id, so that
two runs do not meet, and what a killed run has left is known by an id that is gone. A
machine's end of a line goes with its namespace and needs no tidying.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.postgresql import binaries

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "cfm"
FOLDERS = "cfm-machines-"
_OURS = re.compile(rf"{PREFIX}([0-9]+)")
_OUR_FOLDERS = re.compile(rf"{FOLDERS}([0-9]+)-")


def unavailable() -> str:
    """Why there can be no machines here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    needed = ("ip", "unshare", "nsenter", "haproxy")
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    if binaries() is None:
        return "not installed: postgresql, without which a gateway of a cluster ends"
    if ROOT.is_relative_to("/tmp"):
        return "the checkout is below /tmp, which each machine has for itself"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount", "--mount-proc", "true"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def call(*command: str | Path) -> str:
    """Run a tool to its end; what it printed. Fails with what it said."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def links() -> list[dict[str, Any]]:
    """All interfaces outside of machines, as `ip` tells of them."""
    return list(json.loads(call("ip", "-json", "addr", "show")))


def sweep() -> list[str]:
    """Remove what runs left whose process is gone; the names of it."""
    found = []
    for link in links():
        name = link["ifname"]
        if (match := _OURS.fullmatch(name)) and _gone(match[1]):
            call("ip", "link", "delete", name)
            found.append(name)
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        if (match := _OUR_FOLDERS.match(folder.name)) and _gone(match[1]):
            shutil.rmtree(folder, ignore_errors=True)
            found.append(folder.name)
    return found


def _gone(pid: str) -> bool:
    return int(pid) == os.getpid() or not Path("/proc", pid).exists()


class Network:
    """A bridge with an address of the host's own, .1, and those of machines above."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        self._prefix = ""

    def open(self) -> None:
        """Make it, on addresses that nobody here has."""
        self._prefix = _free()
        call("ip", "link", "add", self.name, "type", "bridge")
        call("ip", "addr", "add", f"{self.host}/24", "dev", self.name)
        call("ip", "link", "set", self.name, "up")

    def close(self) -> None:
        """In any state."""
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True)

    @property
    def host(self) -> str:
        """The host's own address, where clients and the balancer are."""
        return self.address(1)

    def address(self, number: int) -> str:
        """Of the machine of this number."""
        return f"{self._prefix}.{number}"

    def line(self, number: int) -> str:
        """The name of the host's end of a machine's line."""
        return f"{self.name}-{number}"

    def plug(self, number: int, init: int) -> None:
        """Give the machine whose first process is `init` its address on the bridge."""
        line, inside = self.line(number), ("nsenter", "-t", str(init), "-n", "ip")
        call("ip", "link", "add", line, "type", "veth", *_peer(init))
        call("ip", "link", "set", line, "master", self.name, "up")
        call(*inside, "link", "set", "lo", "up")
        call(*inside, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        call(*inside, "link", "set", "eth0", "up")
        call(*inside, "route", "add", "default", "via", self.host)

    def remove(self, number: int) -> None:
        """Its machine is gone. The kernel takes the line away too, but in its own time,
        and until then nobody else could have the name."""
        line = self.line(number)
        subprocess.run(["ip", "link", "delete", line], capture_output=True)

    def unplug(self, number: int) -> None:
        """Off the bridge: to everybody the machine has fallen silent."""
        call("ip", "link", "set", self.line(number), "nomaster")

    def replug(self, number: int) -> None:
        """On it again."""
        call("ip", "link", "set", self.line(number), "master", self.name)


def _peer(init: int) -> tuple[str, ...]:
    return ("peer", "name", "eth0", "netns", str(init))


def _free() -> str:
    taken = {
        address["local"].rpartition(".")[0]
        for link in links()
        for address in link["addr_info"]
        if address["family"] == "inet"
    }
    start = os.getpid()
    every = (f"10.{64 + (n >> 8) % 128}.{n % 256}" for n in range(start, start + 2**15))
    return next(prefix for prefix in every if prefix not in taken)
