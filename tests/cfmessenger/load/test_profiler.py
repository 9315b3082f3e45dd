"""Samples of a Python process: read as py-spy writes them, and none without it."""

import os
import stat
from pathlib import Path

import pytest

from cfmessenger.load import profiler

RAW = """main (a.py:1);work (a.py:9) 3
main (a.py:1);work (a.py:9);encode (b.py:4) 6
main (a.py:1) 1
not a line of samples
"""


def test_the_innermost_functions_count_the_busiest_first() -> None:
    assert profiler.shares(RAW) == {
        "encode (b.py:4)": 0.6,
        "work (a.py:9)": 0.3,
        "main (a.py:1)": 0.1,
    }
    assert profiler.shares("") == {}


async def test_without_it_nobody_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not profiler.there()
    assert await profiler.functions(os.getpid(), 1.0) == {}


@pytest.mark.parametrize("works", [True, False])
async def test_what_it_writes_is_read_and_its_failure_is_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """The program itself needs rights that a test has not: a script writes its file."""
    script = tmp_path / profiler.PROGRAM
    file = f"for last; do :; done; printf '%s' '{RAW}' > \"$last\""
    script.write_text(f"#!/bin/sh\n{file if works else 'exit 1'}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = await profiler.functions(os.getpid(), 1.0)
    assert bool(found) is works
