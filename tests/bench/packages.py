"""What the peers are made of: pinned packages in a cache folder, fetched once.

Owns the table of versions and the folder (`CFM_BENCH_CACHE`, by default
`~/.cache/cfmessenger-bench`). The package clients' own configuration says where they
fetch from. What cannot be had is `Missing`, with a reason a reader can act on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

NPM = {
    "workerd": "1.20261117.1",
    "ws": "8.23.0",
}
PYPI = {
    "django": "5.2.19",
    "channels": "4.3.2",
    "channels-valkey": "0.3.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "httptools": "0.9.0",
    "websockets": "17.4",
}

NGINX_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules")

Fetch = Callable[[Path, dict[str, str]], None]

FETCH_S = 240.0


class Missing(Exception):
    """A peer cannot take part; the text says why, on one line."""


def cache() -> Path:
    """The folder everything is fetched into; outside every repository."""
    chosen = os.environ.get("CFM_BENCH_CACHE")
    return Path(chosen or "~/.cache/cfmessenger-bench").expanduser().absolute()


def node_modules() -> Path:
    """The folder with the `NPM` packages in it, fetched when it is not there."""
    return _fetched("npm", NPM, _npm) / "node_modules"


def python() -> Path:
    """An interpreter that has the `PYPI` packages and nothing of ours."""
    return _fetched("pypi", PYPI, _pip) / "bin" / "python"


def program(name: str) -> str:
    """The path of a program that must be there already."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not on the path")
    return found


def nchan() -> Path:
    """The module that makes nginx a server of channels, as a distribution lays it."""
    for folder in NGINX_MODULES:
        if (found := Path(folder, "ngx_nchan_module.so")).exists():
            return found
    raise Missing("nginx has no nchan (Debian: nginx-light, libnginx-mod-nchan)")


def _fetched(kind: str, table: dict[str, str], fetch: Fetch) -> Path:
    # Another table is another folder, so that a changed pin is never half applied.
    pins = " ".join(f"{name} {version}" for name, version in sorted(table.items()))
    tag = f"{pins} {sys.version_info[:2] if kind == 'pypi' else ''}"
    folder = cache() / f"{kind}-{hashlib.sha256(tag.encode()).hexdigest()[:12]}"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fetch(folder, table)
        (folder / ".complete").write_text(f"{pins}\n")
    return folder


def _npm(folder: Path, table: dict[str, str]) -> None:
    wanted = [f"{name}@{version}" for name, version in table.items()]
    # A package.json of its own, or npm would look for one in the folders above.
    (folder / "package.json").write_text('{"private": true}\n')
    quiet = ("--no-audit", "--no-fund", "--no-save", "--loglevel=error")
    _run([program("npm"), "install", *quiet, *wanted], folder)


def _pip(folder: Path, table: dict[str, str]) -> None:
    wanted = [f"{name}=={version}" for name, version in table.items()]
    _run([sys.executable, "-m", "venv", str(folder)], folder)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", *wanted], folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_S,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{Path(command[0]).name} took over {FETCH_S:.0f} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stdout", b"") or b""
        lines = said.decode(errors="replace").strip().splitlines()
        # The first line of an npm error says most; none names our folders.
        reason = lines[0][:120] if lines else str(error)
        raise Missing(f"{Path(command[0]).name} failed: {reason}") from None
