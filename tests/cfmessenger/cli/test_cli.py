"""The command group and settings as flags, as a user meets them: processes."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cfmessenger import __version__
from cfmessenger.cli.flags import settings_or_exit
from cfmessenger.cli.settings_help import default_of
from cfmessenger.settings import Settings


def run(*args: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cfmessenger", *args],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **env},
    )


def test_version(tmp_path: Path) -> None:
    assert run("--version", folder=tmp_path).stdout == f"cfmessenger {__version__}\n"


def test_help_names_the_commands_but_not_the_hidden_ones(tmp_path: Path) -> None:
    text = run("--help", folder=tmp_path).stdout
    assert "\n  up " in text and "\n  chat " in text and "\n  rooms " in text
    roles = ("head", "node", "gateway", "drain", "status", "doctor")
    assert all(f"\n  {role} " in text for role in roles)
    assert "-process" not in text


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


def test_secrets_have_no_flag_and_all_else_has(tmp_path: Path) -> None:
    text = run("up", "--help-all", folder=tmp_path).stdout
    told = set(re.findall(r"^  --([a-z-]+) TEXT", text, re.M))
    secret = {"turnstile_secret_key", "ai_key", "crash_at"}
    fields = set(Settings.__struct_fields__) - secret
    assert told == {field.replace("_", "-") for field in fields}


USED = {
    "rooms": "data_dir cluster",
    "placement": "data_dir cluster pool_size",
    "bots": "data_dir cluster valkey_url users bots_active bot_quota_day",
    "head": "valkey_url node_address ray_port ray_name ray_store_url data_dir",
    "node": (
        "valkey_url node_address namespace_port ray_address ray_name placement "
        "pool_size hibernate_after data_dir"
    ),
    "gateway": "valkey_url database_url host port gateways data_dir",
    "drain": "data_dir",
    "status": "data_dir cluster valkey_url",
    "doctor": "data_dir cluster valkey_url database_url users",
    "backup": "data_dir cluster valkey_url database_url",
    "restore": "data_dir valkey_url database_url fsync",
}
"""The settings that the help of a command shows; `up` has more."""


@pytest.mark.parametrize(
    "command",
    [
        *("up", "rooms", "placement", "bots", "chat"),
        *("head", "node", "gateway", "drain", "status", "doctor"),
        *("backup", "restore"),
    ],
)
def test_help_tells_what_matters_with_its_default(command: str, tmp_path: Path) -> None:
    done = run(command, "--help", folder=tmp_path, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    text = " ".join(done.stdout.split())
    flags = set(re.findall(r"; CFM_([A-Z_]+)\]", text))
    for field in map(str.lower, flags):
        assert f"[default: {default_of(field)}; CFM_{field.upper()}]" in text
    if command == "up":
        assert {"PORT", "DATA_DIR"} < flags and len(flags) < 20
        assert "--help-all" in text
    else:
        assert flags == {each.upper() for each in USED.get(command, "").split()}
        assert ("--help-all" in text) == (command in ("head", "node", "gateway"))


def test_a_flag_that_help_leaves_out_is_a_flag(tmp_path: Path) -> None:
    assert "--chat-rate" not in run("up", "--help", folder=tmp_path).stdout
    done = run("up", "--chat-rate", "many", folder=tmp_path)
    assert done.returncode == 3 and "CFM_CHAT_RATE" in done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("rooms",), 1),
        (("rooms", "--json"), 1),
        (("placement",), 1),
        (("placement", "pooled"), 1),
        (("bots",), 1),
        (("bots", "off"), 1),
        (("drain",), 1),
        (("status",), 1),
        (("load", "wake", "--target", "actors"), 2),
    ],
)
def test_where_nothing_runs_one_line_names_the_folder(
    args: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = run(*args, folder=tmp_path, CFM_DATA_DIR=str(tmp_path / "elsewhere"))
    assert (done.returncode, done.stdout) == (code, "")
    said = f"No messenger runs on {tmp_path / 'elsewhere'}; --cluster names one "
    said += "elsewhere, by its Valkey's URL."
    assert done.stderr.splitlines()[-1].endswith(said)
    assert code == 2 or done.stderr == f"cfmessenger: {said}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["chat --user user_1", "load idle"])
def test_a_server_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = run(*command.split(), folder=tmp_path, CFM_PORT=str(port))
    assert done.returncode != 0
    assert f"http://127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_colours_are_left_out_where_they_are_not_wanted(tmp_path: Path) -> None:
    for command in ("up", "load", "rooms"):
        done = run(command, "--help", folder=tmp_path, NO_COLOR="1", FORCE_COLOR="1")
        assert "\x1b" not in done.stdout
