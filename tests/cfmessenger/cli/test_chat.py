"""`cfmessenger chat` as a process: pipes, a terminal, its exit codes, its safety."""

import asyncio
import os
import pty
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfmessenger.cli.lines import Splitter
from cfmessenger.cli.screen import plain
from tests import patience

from ..client.scripted_server import HttpRequest, ScriptedServer, ServerSocket, now_ms
from ..client.test_state import PARTICIPANTS, history, message

COMMAND = [sys.executable, "-m", "cfmessenger", "chat", "--user", "user_1"]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


class Chat:
    """The process with pipes at both ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen = ""

    @classmethod
    async def start(cls, url: str, *arguments: str) -> "Chat":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "--url",
            url,
            *arguments,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        return cls(process)

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    async def shows(self, pattern: str) -> str:
        """The first output line that matches; the lines before it are gone."""
        assert self.process.stdout is not None
        async with patience.within(10):
            while line := (await self.process.stdout.readline()).decode():
                self.seen += line
                if re.search(pattern, line):
                    return line
        raise AssertionError(f"no {pattern!r} in {self.seen!r}")

    async def end(self) -> tuple[int | None, str, str]:
        """Exit code, the rest of the output, and the error output."""
        out, errors = await patience.wait_for(self.process.communicate(), 10)
        return self.process.returncode, out.decode(), errors.decode()


def echo(seq: int, frame: dict[str, Any]) -> dict[str, Any]:
    event = message(seq, frame["id"], "user_1") | {"type": frame["type"]}
    event["content"] = frame.get("content", f"sent a {frame['type']}.")
    if frame["type"] == "wink":
        event |= {"isWink": True, "winkId": frame["winkId"]}
        event |= {"playAt": now_ms() + 300, "playbackKey": "0123456789abcdef"}
    return event | {"displayName": "One", "timestamp": now_ms()}


async def test_a_pipe_says_its_lines_in_order_and_leaves(
    server: ScriptedServer,
) -> None:
    chat = await Chat.start(server.url)
    chat.type("hello\n\n//slash\n/nudge\n/wink heart\nlast without newline")
    assert chat.process.stdin is not None
    chat.process.stdin.close()
    socket = await server.accept()
    socket.send(history(1), PARTICIPANTS)
    frames = []
    for seq in range(2, 7):
        frames.append(await next_message(socket))
        socket.send(echo(seq, frames[-1]))
    code, out, errors = await chat.end()
    assert (code, errors) == (0, "")
    assert [(f["type"], f.get("content", f.get("winkId"))) for f in frames] == [
        ("chat", "hello"),
        ("chat", "/slash"),
        ("nudge", None),
        ("wink", "heart"),
        ("chat", "last without newline"),
    ]
    assert re.search(r"^\d\d:\d\d:\d\d Two: text 1$", out, re.M)
    assert re.search(r"^\d\d:\d\d:\d\d One: hello ✓$", out, re.M)
    assert re.search(r"\* One sent a nudge\. ✓$", out, re.M)
    assert re.search(r"\* One winks ~\*~ heart ~\*~ ✓$", out, re.M)
    assert "> " not in out and "\x1b" not in out
    assert server.requests[-1].path == "/api/auth/logout"


async def next_message(socket: ServerSocket) -> dict[str, Any]:
    while (frame := await socket.recv())["type"] == "ack":
        pass
    return frame


async def test_of_a_crowd_its_number_is_shown_and_nobodys_coming(
    server: ScriptedServer,
) -> None:
    chat = await Chat.start(server.url, "--room", "music")
    socket = await server.accept()
    named = [
        {"id": f"user_{n}", "displayName": f"No {n}", "status": "online"}
        for n in range(2, 27)
    ]
    crowd = PARTICIPANTS | {"participants": named, "total": 5_000}
    later = [each | {"status": "busy", "displayName": "Now"} for each in named[1:]]
    socket.send(crowd, crowd | {"participants": later, "total": 4_999})
    assert (await chat.shows("No 2, No 3")).endswith(", No 21, and 4,980 more\n")
    chat.type("/who\n")
    # Nothing in between: what changes in a crowd is no line.
    assert (await chat.shows("")).endswith("Now (busy), and 4,975 more\n")
    chat.process.terminate()
    await chat.end()


async def test_what_others_do_is_shown_and_acknowledged(server: ScriptedServer) -> None:
    chat = await Chat.start(server.url, "--room", "music")
    socket = await server.accept()
    assert socket.path == "/api/ws/room/music"
    two = {"id": "user_2", "displayName": "Two", "status": "away"}
    socket.send(
        {"type": "system", "content": "Connected to ChatRoom", "timestamp": 1},
        PARTICIPANTS | {"participants": [two]},
        message(1),
        {"type": "typing", "roomId": "music", "senderId": "user_2"}
        | {"displayName": "Two", "isTyping": True},
        {"type": "typing", "roomId": "music", "senderId": "user_2"}
        | {"displayName": "Two", "isTyping": False},
        PARTICIPANTS | {"participants": [two | {"status": "busy"}]},
    )
    assert await chat.shows("Connected to ChatRoom")
    assert await chat.shows(r"-- here: Two \(away\)$")
    assert await chat.shows("Two: text 1$")
    assert await chat.shows("-- Two is typing…$")
    assert await chat.shows("-- Two stopped typing$")
    assert await chat.shows("-- Two is now busy$")
    assert await socket.recv() == {"type": "ack", "ackId": "m1", "status": "delivered"}
    chat.type("hello there\n")
    frame = await socket.recv()
    socket.send(echo(2, frame))
    receipt = {"type": "delivery_status", "roomId": "music", "ackId": frame["id"]}
    more = {"status": "read", "senderId": "user_2", "timestamp": 5}
    socket.send(receipt | more)
    assert await chat.shows("-- ✓✓ read by Two: hello there$")
    chat.type("/typing\n/typing off\n/status busy\n/who\n/help\n")
    assert await socket.recv() == {"type": "typing", "isTyping": True}
    assert await socket.recv() == {"type": "typing", "isTyping": False}
    assert await socket.recv() == {"type": "presence", "status": "busy"}
    assert await chat.shows(r"-- here: Two \(busy\)$")
    assert await chat.shows("/quit")
    asked: list[Any] = []

    def renamed(request: HttpRequest) -> tuple[int, Any]:
        asked.append(request.json)
        return 200, request.json

    server.routes["POST", "/api/presence"] = renamed
    chat.type("/name One and only\n")
    server.routes["GET", "/api/rooms/music/messages"] = lambda request: (
        200,
        {"messages": [message(int(request.query["before"]) - 1) | {"seq": 1}]},
    )
    chat.type("/history 1\n")
    assert await chat.shows("Two: text 0$")
    assert asked == [{"status": "online", "displayName": "One and only"}]
    chat.type("/quit\n")
    assert (await chat.end())[0] == 0


async def test_a_lost_connection_is_told_and_resumed(server: ScriptedServer) -> None:
    chat = await Chat.start(server.url, "--to", "user_2")
    socket = await server.accept()
    assert socket.path == "/api/ws/room/dm_user_1__user_2"
    socket.send(history(1))
    await chat.shows("text 1")
    socket.close(1012, "restart")
    await chat.shows(r"-- not connected \(restart\); trying again in \d\.\d s$")
    again = await server.accept()
    assert again.since == 1
    again.send(history(2))
    await chat.shows("-- connected again$")
    await chat.shows("text 2$")
    again.close(4501)
    code, _, errors = await chat.end()
    assert code == 1
    assert "logged out" in errors and "Traceback" not in errors


async def test_mistakes_are_told_plainly(server: ScriptedServer) -> None:
    chat = await Chat.start(server.url)
    chat.type("/nonsense\n/status lazy\n" + "x" * 3000 + "\n/history x\n/quit\n")
    code, _, errors = await chat.end()
    assert code == 1
    assert [line[:3] for line in errors.splitlines()] == ["!! "] * 4
    assert "there is no /nonsense" in errors
    assert "VALIDATION_ERROR" in errors


async def test_a_pipe_waits_for_its_rate(server: ScriptedServer) -> None:
    chat = await Chat.start(server.url)
    chat.type("hello\n")
    assert chat.process.stdin is not None
    chat.process.stdin.close()
    socket = await server.accept()
    frame = await socket.recv()
    error = {"type": "error", "code": "RATE_LIMITED", "message": "m", "content": "m"}
    socket.send(error | {"retryable": True, "retryAfterMs": 20, "id": frame["id"]})
    again = await socket.recv()
    assert again["content"] == "hello"
    socket.send(echo(1, again))
    assert (await chat.end())[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--room", "general", "--to", "user_2"], 2),
        (["--to", "user_1"], 2),
        (["--url", "ftp://nowhere"], 2),
        (["--url", "http://127.0.0.1:1"], 1),
        (["--user", "nobody"], 1),
    ],
)
async def test_exit_codes(
    server: ScriptedServer, arguments: list[str], expected: int
) -> None:
    chat = await Chat.start(server.url, *arguments)
    code, out, errors = await chat.end()
    assert (code, out) == (expected, "")
    assert errors and "Traceback" not in errors


async def test_stay_listens_after_the_input_and_a_signal_ends_it(
    server: ScriptedServer,
) -> None:
    chat = await Chat.start(server.url, "--stay")
    assert chat.process.stdin is not None
    chat.process.stdin.close()
    socket = await server.accept()
    socket.send(message(1))
    await chat.shows("text 1")
    chat.process.send_signal(signal.SIGTERM)
    await patience.wait_for(chat.process.wait(), 10)
    assert chat.process.returncode == 0
    assert server.requests[-1].path == "/api/auth/logout"


def test_nothing_of_others_can_steer_the_terminal() -> None:
    hostile = "a\x1b[2J\x9b31m\x07\rb\u202ec\u2066d\u2028e\tf\x00\ud800"
    assert plain(hostile) == "a[2J31mbcde f"


async def test_hostile_text_stays_on_its_line(server: ScriptedServer) -> None:
    chat = await Chat.start(server.url)
    socket = await server.accept()
    content = "hi\n12:00:00 One: forged\x1b]0;title\x07"
    socket.send(message(1) | {"content": content, "displayName": "Tw\x1b[31mo"})
    assert "\x1b" not in await chat.shows("Tw.*hi$")
    assert (await chat.shows("forged")).startswith(" " * 10)
    chat.type("/quit\n")
    await chat.end()


def test_lines_of_a_pipe_are_kept_as_they_are() -> None:
    splitter = Splitter()
    assert splitter.feed(b"a\r\nb\n\ncaf") == ["a", "b", ""]
    assert splitter.feed(b"\xc3\xa9\xff") == []
    assert splitter.feed(b"") == ["caf\u00e9\ufffd"] and splitter.ended
    assert len(Splitter().feed(b"x" * 100_000 + b"\n")[0]) == 16 * 1024


class Terminal:
    """The process on a pseudo-terminal."""

    def __init__(self, server: ScriptedServer, **environment: str) -> None:
        self.command = [*COMMAND, "--url", server.url]
        self.environment = os.environ | {"TERM": "xterm"} | environment
        self.seen = b""

    async def __aenter__(self) -> "Terminal":
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        self.before = termios.tcgetattr(slave)
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=slave, stdout=slave, stderr=slave, env=self.environment
        )
        os.close(slave)
        self.changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def _read(self) -> None:
        try:
            read = os.read(self.master, 65536)
            self.seen += read
            if b"\x1b[6n" in read:  # "where is the cursor?"
                self.type("\x1b[24;1R")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self.master)
        self.changed.set()

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    async def shows(self, text: str) -> None:
        try:
            async with patience.within(10):
                while text.encode() not in self.seen:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in {self.seen!r}") from None


async def test_a_terminal_has_a_prompt_colours_and_read_receipts(
    server: ScriptedServer,
) -> None:
    async with Terminal(server) as terminal:
        socket = await server.accept()
        socket.send(message(1))
        await terminal.shows("text 1")
        assert [(await socket.recv())["status"] for _ in range(2)] == [
            "delivered",
            "read",
        ]
        terminal.type("ha")
        assert await socket.recv() == {"type": "typing", "isTyping": True}
        terminal.type("i…\n")
        assert await next_message(socket) == {"type": "typing", "isTyping": False}
        said = await socket.recv()
        assert said["content"] == "hai…"
        socket.send(echo(2, said))
        await terminal.shows("hai…\x1b[2m ✓")
        terminal.type("/oops\n")
        await terminal.shows("there is no /oops")
        terminal.type("\x04")  # end of input
        assert await patience.wait_for(terminal.process.wait(), 10) == 0


async def test_the_keys_of_a_terminal_edit_the_line(server: ScriptedServer) -> None:
    async with Terminal(server) as terminal:
        socket = await server.accept()
        await terminal.shows("connected")

        async def said(keys: str | bytes) -> str:
            terminal.type(keys)
            while (frame := await socket.recv())["type"] != "chat":
                pass
            content: str = frame["content"]
            return content

        left, up, down = "\x1b[D", "\x1b[A", "\x1b[B"
        assert await said(f"hllo{3 * left}a\r") == "hallo"
        assert await said("two\x01one \x05!\r") == "one two!"
        assert await said("gone\x15kept wrod\x17word\r") == "kept word"
        assert await said(f"{up}{up}\x7f?\r") == "one two?"
        assert await said(f"{up}{up}{up}{down}\r") == "kept word"
        assert await said("w\u00f6rd ".encode() + b"\xff\r") == "w\u00f6rd ?"
        assert await said("\x1b[200~first\nsecond\x1b[201~\r") == "first"
        assert await said("") == "second"
        termios.tcsetwinsize(terminal.master, (24, 20))
        terminal.process.send_signal(signal.SIGWINCH)
        assert await said(50 * "x" + "\x01y\r") == "y" + 50 * "x"


async def test_what_comes_while_one_types_leaves_the_line_whole(
    server: ScriptedServer,
) -> None:
    async with Terminal(server) as terminal:
        socket = await server.accept()
        await terminal.shows("connected")
        terminal.type("w")
        assert await next_message(socket) == {"type": "typing", "isTyping": True}
        terminal.seen = b""
        socket.send(message(1))
        await terminal.shows("text 1\r\n")
        await terminal.shows("> w")  # again, below it
        terminal.type("rld\x1b[D\x1b[D\x1b[Do\r")
        assert await next_message(socket) == {"type": "typing", "isTyping": False}
        assert (await next_message(socket))["content"] == "world"


@pytest.mark.parametrize("how", ["\x04", "\x03", "/quit\r", signal.SIGTERM])
async def test_a_terminal_is_left_as_it_was(
    server: ScriptedServer, how: str | signal.Signals
) -> None:
    async with Terminal(server) as terminal:
        socket = await server.accept()
        await terminal.shows("connected")
        if isinstance(how, str):
            terminal.type(how)
        else:
            terminal.type("half a line")
            assert (await socket.recv())["type"] == "typing"
            terminal.process.send_signal(how)
        assert await patience.wait_for(terminal.process.wait(), 10) == 0
        assert termios.tcgetattr(terminal.master) == terminal.before
        assert terminal.seen.rindex(b"\x1b[?2004l") > terminal.seen.rindex(
            b"\x1b[?2004h"
        )
        assert b"Traceback" not in terminal.seen
    assert server.requests[-1].path == "/api/auth/logout"


async def test_no_color_is_honoured(server: ScriptedServer) -> None:
    async with Terminal(server, NO_COLOR="1") as terminal:
        socket = await server.accept()
        socket.send(message(1))
        await terminal.shows("Two: text 1")
        terminal.process.send_signal(signal.SIGINT)
        assert await patience.wait_for(terminal.process.wait(), 10) == 0
        assert not re.search(rb"\x1b\[\d*3\dm", terminal.seen)
