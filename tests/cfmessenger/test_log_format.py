"""A record is one line whatever is in it, and carries no credential wherever it was."""

import io
import json
import logging
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from cfmessenger.log_format import configure, redact, request_id

STYLES = ("console", "json")
TOKEN = "Zx9_kQ-hush0hush0hush0hush0hush0hush0hush0hu"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def logger() -> logging.Logger:
    return logging.getLogger("cfmessenger.room")


def record(stream: io.StringIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stream.getvalue())
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "text",
    [
        "GET /api/ws/room/general?sessionId={}&userId=user_1",
        "GET /api/ws/room/general?userId=user_1&ticket={}",
        "GET /login?next=%2Fws%3FsessionId%3D{}",
        "Authorization: Bearer {}",
        "sec-websocket-protocol: cfm.v1, bearer.{}",
        'body {{"sessionId": "{}", "userId": "user_1"}}',
        'body {{\\"token\\":\\"{}\\"}}',
        "{{'cf-turnstile-response': '{}'}}",
        "[(b'authorization', b'Bearer {}')]",
        "cannot reach valkey://cfm:{}@valkey.example:6379",
    ],
)
def test_no_credential_is_logged_however_it_travelled(
    style: str, text: str, stream: io.StringIO
) -> None:
    configure(style=style, stream=stream)
    said = text.format(TOKEN)
    logger().info(said, extra={"url": said, "ticket": TOKEN})
    logger().info("%s refused", said)
    try:
        raise ValueError(said)
    except ValueError:
        logger().exception("failed")
    assert "hush" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") >= 4
    assert stream.getvalue().count("\n") == 3


def test_what_is_not_a_credential_stays(stream: io.StringIO) -> None:
    configure(style="json", stream=stream)
    said = "GET /api/ws/room/general?sessionId=x&since=7 session of user_1, 2 tickets"
    logger().info("%s", said)
    assert record(stream)["message"] == said.replace("=x&", "=[redacted]&")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "bad", ["\n", "\r", "\x00", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\ud800"]
)
def test_a_client_cannot_forge_a_record(
    style: str, bad: str, stream: io.StringIO
) -> None:
    configure(style=style, stream=stream)
    logger().warning("name %s", f"a{bad}INFO forged", extra={"agent": bad})
    line = stream.getvalue()
    assert len(line.splitlines()) == 1
    assert line.removesuffix("\n").isprintable()
    assert "INFO forged" in line


def test_json_has_time_level_logger_message_and_extras(stream: io.StringIO) -> None:
    configure(style="json", stream=stream)
    extra = {"conn": "g1.7", "seq": 3, "took_s": float("nan"), "first": True}
    extra["_stamp"] = 1  # as Ray puts one on every record: not ours to show
    logger().info("joined %s", "general", extra=extra)
    found = record(stream)
    assert list(found)[:4] == ["ts", "level", "logger", "message"]
    assert found["ts"] > 1_700_000_000_000
    del found["ts"]
    assert found == {
        "level": "info",
        "logger": "cfmessenger.room",
        "message": "joined general",
        "conn": "g1.7",
        "seq": 3,
        "took_s": "nan",
        "first": True,
    }


@pytest.mark.parametrize("style", STYLES)
def test_the_request_id_is_on_every_record_of_the_request(
    style: str, stream: io.StringIO
) -> None:
    configure(style=style, stream=stream)
    token = request_id.set("req-42")
    logging.getLogger("some.library").error("in")
    request_id.reset(token)
    logger().error("out")
    inside, outside = stream.getvalue().splitlines()
    assert "req-42" in inside and "req-42" not in outside


def test_console_is_readable_and_keeps_extras(stream: io.StringIO) -> None:
    configure(style="console", stream=stream)
    logger().info("ready", extra={"port": 8000})
    assert " INFO    cfmessenger.room ready port=8000\n" in stream.getvalue()


def test_the_stream_decides_when_no_style_is_set() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        configure(stream=stream)
        logger().info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_levels_are_kept(stream: io.StringIO) -> None:
    configure(level="warning", style="json", stream=stream)
    logger().info("quiet")
    assert not stream.getvalue()
    logger().warning("loud")
    assert record(stream)["level"] == "warning"


@pytest.mark.parametrize("style", STYLES)
def test_a_record_that_cannot_be_formatted_still_is_one_line(
    style: str, stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(style=style, stream=stream)
    logger().info("%d messages", f"sessionId={TOKEN}")
    assert "%d messages [cannot be formatted: TypeError]" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
    assert "hush" not in capsys.readouterr().err + stream.getvalue()


def test_warnings_become_records(stream: io.StringIO) -> None:
    configure(style="json", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old\nhabit", DeprecationWarning, stacklevel=1)
    assert record(stream)["logger"] == "py.warnings"


@pytest.mark.parametrize("style", STYLES)
def test_tracebacks_are_kept_on_the_line(style: str, stream: io.StringIO) -> None:
    configure(style=style, stream=stream)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger().exception("boom")
    logger().info("where", stack_info=True)
    first, second = stream.getvalue().splitlines()
    assert "Traceback" in first and "ZeroDivisionError" in first
    assert "Stack (most recent call last)" in second


def test_what_looks_like_a_token_is_blotted_wherever_it_stands() -> None:
    token = "Zm9vYmFyYmF6cXV4-_0123456789abcdefABCDEFghi"
    assert redact(f"GET /api/rooms/{token}/messages 404") == (
        "GET /api/rooms/[redacted]/messages 404"
    )
    assert redact(f"{token}.") == "[redacted]."
    for harmless in (
        "dm_user_1__user_2",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "room:" + "a" * 64,
        "/Some/LongPath/WithManyParts/AndMore/ButEachShort/x.py",
    ):
        assert redact(harmless) == harmless


@pytest.mark.parametrize("seed", range(20))
def test_a_text_that_no_pattern_is_asked_about_would_match_none(seed: int) -> None:
    chance = random.Random(seed)
    pieces = (
        *("sessionId", "session_id", "SessionID", "ticket", "Token", "bearer.", "="),
        *("Bearer ", "cf-turnstile-response", "secret", "PASSWORD", "authorization"),
        *("apikey", "api_key", "API_KEY", '": "', "':'", "%3d", "://", "a:b@c", "aB"),
        *("-", "_", "/api/", " ", "\n", "&", TOKEN, TOKEN[:39], "x" * 40, "user_1"),
    )
    for _ in range(50):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 6)))
        # What is beyond ASCII goes to the patterns in any case.
        assert redact(text) == redact(f"é {text}").removeprefix("é ")
