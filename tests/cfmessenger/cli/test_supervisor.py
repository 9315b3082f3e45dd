"""Children are started, watched, restarted and ended, as real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTHING_LEFT = ["descendants 0"]


def run(scenario: str, folder: Path) -> tuple[list[str], str]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.cfmessenger.cli.supervised",
            scenario,
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=120,  # of a machine that hangs, not of ours
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_they_start_and_stop_in_order(tmp_path: Path) -> None:
    lines, said = run("order", tmp_path)
    # A child's stdout is our stderr.
    assert said.split() == ["start", "a", "start", "b", "b", "a"]
    assert lines == NOTHING_LEFT


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("restart", ["restarted True"]),
        ("failing", ["a does not start (tried 3 times): exit code 7"]),
        ("silent", ["a does not start (tried 3 times): not ready within 0.1 s"]),
        ("stubborn", ["killed after its time True"]),
        ("follower", ["b went with a True"]),
        ("strays", ["members 2", "left in its session 0"]),
        ("impatient", ["none runs [None, None, None]"]),
        ("backoff", ["grows True"]),
        ("never_two", ["at once {1}"]),
        ("heals", ["others at each try {1}"]),
        ("hung", ["gone True"]),
        ("deaf", ["gone True"]),
        ("deleted", ["there again True"]),
        ("says_why", ["X: no 3 1"]),
        ("lost", ["replaced True"]),
    ],
)
def test_scenario(scenario: str, expected: list[str], tmp_path: Path) -> None:
    lines, _ = run(scenario, tmp_path)
    assert lines == expected + NOTHING_LEFT


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    lines, _ = run("missing", tmp_path)
    why = "/does/not/exist: No such file or directory"
    assert lines == [f"a does not start (tried 3 times): {why}", *NOTHING_LEFT]
