"""The command group and settings as flags, as a user meets them: processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfmessenger import __version__
from cfmessenger.cli.flags import settings_or_exit


def run(*args: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cfmessenger", *args],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **env},
    )


def test_version(tmp_path: Path) -> None:
    assert run("--version", folder=tmp_path).stdout == f"cfmessenger {__version__}\n"


def test_help_names_the_commands_but_not_the_hidden_ones(tmp_path: Path) -> None:
    text = run("--help", folder=tmp_path).stdout
    assert "\n  up " in text and "\n  chat " in text and "\n  rooms " in text
    assert "gateway" not in text and "namespace" not in text


def test_help_imports_neither_ray_nor_the_settings(tmp_path: Path) -> None:
    script = (
        "import sys; from cfmessenger.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'ray', 'msgspec', 'valkey'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\n[]\n")


def test_unknown_command(tmp_path: Path) -> None:
    assert run("fly", folder=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("args", "env", "named"),
    [
        ((), {"CFM_PORT": "many"}, "CFM_PORT"),
        ((), {"CFM_PROT": "1"}, "CFM_PROT"),
        (("--port", "70000"), {}, "CFM_PORT"),
        (("--ray-address", "127.0.0.1:1"), {}, "CFM_RAY_ADDRESS"),
        (("--valkey-url", "valkey://a:pw@h"), {}, "CFM_VALKEY_URL"),
        (("--valkey-url", "unix:///s?password=pw"), {}, "CFM_VALKEY_URL"),
    ],
)
def test_bad_settings_exit_3_with_one_line(
    args: tuple[str, ...], env: dict[str, str], named: str, tmp_path: Path
) -> None:
    done = run("up", *args, folder=tmp_path, **env)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"cfmessenger: {named}: ")
    assert done.stderr.count("\n") == 1
    assert "pw" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFM_PORT", "1234")
    monkeypatch.setenv("CFM_HIBERNATE_AFTER", "5")
    settings = settings_or_exit({"port": "4321", "log_format": None})
    assert (settings.port, settings.hibernate_after) == (4321, 5.0)


def test_secrets_have_no_flag(tmp_path: Path) -> None:
    text = run("up", "--help", folder=tmp_path).stdout
    assert "--chat-rate" in text
    assert "--turnstile-secret-key" not in text and "--ai-key" not in text
