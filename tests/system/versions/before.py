"""The release before this one, as `release_before.txt` names it: its code in a folder.

It runs with the packages that are installed here. Whoever has not the history (a tree
without it, or a shallow one) is skipped, with the reason.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMED = Path(__file__).with_name("release_before.txt")


def fetched(folder: Path) -> Path:
    """A clone of it in this folder."""
    commit = NAMED.read_text().strip()
    try:
        _git("cat-file", "-e", f"{commit}^{{commit}}", at=ROOT)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"the history has no {commit[:12]}, the release before")
    _git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder))
    _git("checkout", "--quiet", commit, at=folder)
    return folder


def _git(*command: str, at: Path | None = None) -> None:
    subprocess.run(["git", *command], cwd=at, check=True, capture_output=True)
