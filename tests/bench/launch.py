"""A server under measurement as a process: started, waited for, ended with its kin.

Owns temporary folders, ports, logs and ends; who is started, and what it is asked, is
`ours` and `contestants`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from cfmessenger.cli import process
from tests.bench.packages import Missing

START_S = 60.0
STOP_S = 15.0


def measured(measuring: Coroutine[Any, Any, None]) -> bool:
    """Runs it, with as many sockets as the machine allows; whether it was interrupted.

    SIGTERM ends the server under measurement and its files as Ctrl-C does.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def until_signalled() -> None:
        task = asyncio.ensure_future(measuring)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        uvloop.run(until_signalled())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return True
    return False


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    """An empty folder, gone at the end."""
    path = Path(tempfile.mkdtemp(prefix="cfm-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    stop: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[process.Entry]:
    """The process, with its output in `log`; ended with all it started.

    A peer is killed: it has nothing to save, and workerd would drain for 10 s.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = process.spawn(command, env, death_signal=signal.SIGTERM, output=output)
    finally:
        os.close(output)
    row = process.entry(child.pid)
    assert row is not None
    try:
        yield row
    finally:
        family = [row, *process.descendants(row.pid)]
        process.send(row, stop)
        await asyncio.to_thread(_end, child.wait, family)


def _end(wait: Callable[[float], int], family: list[process.Entry]) -> None:
    try:
        wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.send(family[0], signal.SIGKILL)
        wait(5.0)
    for left in process.wait_gone(family[1:], 1.0):
        process.send(left, signal.SIGKILL)


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def listens(port: int, row: process.Entry, log: Path) -> None:
    """Until something accepts there. Raises `Missing` when it will not."""
    end = time.monotonic() + START_S
    while True:
        now = process.entry(row.pid)
        if now is None or now.state == "Z" or time.monotonic() > end:
            raise Missing(f"did not start: {last_line(log)}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def last_line(log: Path) -> str:
    """What it said last, cut to what fits a line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:160] if lines else "it said nothing"


def clean_env(**more: str) -> dict[str, str]:
    """Our environment without our settings, and these besides."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
    return kept | more
