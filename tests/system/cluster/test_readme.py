"""What the README tells its reader to type, typed: against one messenger, in order.

A command is a line of an indented block that begins with the environment's `bin`, or
all of a block of `sh`; what a comment says to type is typed.
"""

import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfmessenger.accounts.users import Directory
from cfmessenger.cli.runtime import RuntimeFolder
from tests.patience import Stopwatch
from tests.system.cluster.test_up import Messenger

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^ {4}(\.venv/bin/cfmessenger .+?)(?: +#.*)?$", README, re.M)
(SCRIPT,) = re.findall(r"^```sh\n(.+?)^```", README, re.M | re.S)
PATIENCE_S = 60.0
BOTS = {bot.display_name for bot in Directory.load().bots}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def messenger(folder: Path) -> Iterator[Messenger]:
    """As `make run` starts it, but for the port, and for more logins at once than a
    reader types."""
    up = Messenger(folder / ".cfmessenger", CFM_LOGIN_RATE="0")
    try:
        up.wait_ready().wait_serving()
        yield up
        up.end()
    finally:
        up.popen.kill()
        up.popen.wait()
        assert up.popen.stdout is not None
        up.popen.stdout.close()
        RuntimeFolder(folder / ".cfmessenger").remove()


Type = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start(messenger: Messenger, folder: Path) -> Iterator[Type]:
    """Types something in a shell, whose end it sees to."""
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    started: list[subprocess.Popen[str]] = []

    def begin(line: str) -> subprocess.Popen[str]:
        address = messenger.url.removeprefix("http://")
        env = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        typed = line.replace("localhost:8000", address)
        started.append(
            subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", typed],
                cwd=folder,
                env=env | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for popen in started:
        popen.kill()
        popen.communicate()


def test_the_commands_are_found() -> None:
    named = {line.split()[1] for line in COMMANDS}
    assert named == {"chat", "bots", "placement"}
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_is_said_to(command: str, start: Type) -> None:
    typed = start(command)
    if " chat " in command:
        _converse(typed, command)
    said, _ = typed.communicate(timeout=PATIENCE_S)
    assert typed.returncode == 0, said
    if " bots" in command or " placement" in command:
        assert said.strip()


def _converse(chat: subprocess.Popen[str], command: str) -> None:
    """Says hello; a bot is heard before we leave, others are not there."""
    assert chat.stdin is not None and chat.stdout is not None
    chat.stdin.write("hello\n")
    chat.stdin.flush()
    names = "|".join(map(re.escape, BOTS)) if "bot" in command else ""
    spoken = re.compile(rf"^\d\d:\d\d:\d\d ({names})", re.M)
    heard, watch = "", Stopwatch()
    while not spoken.search(heard):
        assert watch.seconds < PATIENCE_S, heard
        if select.select([chat.stdout], [], [], 1.0)[0]:
            more = os.read(chat.stdout.fileno(), 65536).decode()
            assert more, heard
            heard += more


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_script_does_what_it_is_said_to(start: Type) -> None:
    (frame,) = re.findall(r"^# and type: (.+)$", SCRIPT, re.M)
    for _ in range(3):  # a handshake has 8 s to wake its room: few on a busy machine
        typed = start(SCRIPT)
        said, _ = typed.communicate(frame + "\n", timeout=PATIENCE_S)
        if typed.returncode == 0:
            break
    assert typed.returncode == 0, said
    assert said.count('"success":true') == 5 and '"success":false' not in said
    assert '"id":"user_1"' in said, "who we are"
    assert '"content":"hello"' in said, "the message, in the room's page"
    assert '"name":"ringtone"' in said, "the order"
