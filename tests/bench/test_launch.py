"""A server under measurement leaves nothing behind, however the measurement ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.bench.launch import (
    clean_env,
    folder,
    free_port,
    listens,
    measured,
    running,
)
from tests.bench.packages import Missing

FAMILY = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('begun', flush=True); time.sleep(60)"
)


def test_a_measurement_that_is_told_to_end_cleans_up_and_says_so() -> None:
    gone: list[Path] = []

    async def forever() -> None:
        async with folder() as place:
            gone.append(place)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

    assert measured(forever())
    assert gone and not gone[0].exists()


def test_a_measurement_that_ends_by_itself_was_not_interrupted() -> None:
    async def nothing() -> None:
        pass

    assert not measured(nothing())


async def test_what_a_server_has_started_ends_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running([sys.executable, "-c", FAMILY], clean_env(), log) as row:
        server = psutil.Process(row.pid)
        async with asyncio.timeout(30):
            while "begun" not in log.read_text():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)
        children = server.children()
        assert children
    assert not server.is_running()
    async with asyncio.timeout(30):  # killed is not gone yet
        while any(map(_lives, children)):  # noqa: ASYNC110 - somebody else's end
            await asyncio.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_who_ends_before_it_listens_is_missing_with_its_last_word(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "echo no such module >&2; exit 1"]
    async with running(command, clean_env(), log) as row:
        with pytest.raises(Missing, match="no such module"):
            await listens(free_port(), row, log)


def test_our_settings_are_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFM_PORT", "1")
    monkeypatch.setenv("CFMX_CHILD", "x")
    env = clean_env(CFM_DATA_DIR="y")
    assert "CFM_PORT" not in env and "CFMX_CHILD" not in env
    assert env["CFM_DATA_DIR"] == "y" and env["PATH"] == os.environ["PATH"]
