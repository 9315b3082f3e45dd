"""How log records look: one line each, on the console or as JSON, and no credentials.

Owns the root logger's one handler and the request id of the current context; must not
decide what is logged. Session tokens travel in URLs (the original client's
`?sessionId=`) and subprotocols, and libraries log both, so what looks like a
credential is blotted out of the finished line, tracebacks and extra fields included:
a filter on the record would see neither. Control characters are escaped for the same
reason that it is one line: a client must not be able to forge a record.
"""

import json
import logging
import math
import re
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request or socket being served; on every record when set."""

_BLOT = "[redacted]"
_SECRET_NAMES = (
    r"session_?id|ticket|token|bearer|cf-turnstile-response|secret|password"
    r"|authorization|api_?key"
)
_SECRET_NAME = re.compile(rf"(?i){_SECRET_NAMES}")
_PATTERNS = (
    # Authorization: Bearer x, and the subprotocol bearer.x
    (re.compile(r"(?i)\b(bearer(?:\.|%2e|\s+))[\w.~+/=%-]+"), rf"\1{_BLOT}"),
    # sessionId=x in a query or a form, and percent-encoded inside another URL
    (
        re.compile(rf"(?i)((?:{_SECRET_NAMES})(?:=|%3d))[^\s&,;\"'<>)\]}}]+"),
        rf"\1{_BLOT}",
    ),
    # "sessionId": "x" and 'sessionId': 'x', as JSON and as a dict's repr
    (
        re.compile(rf"(?i)((?:{_SECRET_NAMES})\\?[\"']\s*:\s*b?\\?[\"'])[^\"'\\]+"),
        rf"\1{_BLOT}",
    ),
    # Whatever is as long and as mixed as a token, wherever it stands: in a path, say
    (
        re.compile(
            r"(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[A-Za-z0-9_-]{40,}(?![\w-])",
            re.ASCII,
        ),
        _BLOT,
    ),
    # valkey://user:x@host
    (re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)"), rf"\1{_BLOT}"),
)
# One of these is in whatever a pattern could match, letters in lower case; or as many
# characters as a token has.
_SIGNS = (
    *("://", "sessionid", "session_id", "ticket", "token", "bearer", "secret"),
    *("cf-turnstile-response", "password", "authorization", "apikey", "api_key"),
)
_LONG = re.compile(r"[A-Za-z0-9_-]{40}")
# C0, DEL and C1; line and paragraph separators; bidirectional controls; surrogates,
# which a UTF-8 stream cannot carry.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
# `color_message` is uvicorn repeating itself in colour.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}


def configure(
    level: str = "info", style: str | None = None, stream: TextIO | None = None
) -> None:
    """Send every record of the process to `stream` (stderr) and nothing elsewhere.

    `style` is console, json, or None: console on a terminal, JSON otherwise. Python's
    warnings become records of the logger `py.warnings`.
    """
    target = stream if stream is not None else sys.stderr
    if style is None:
        style = "console" if target.isatty() else "json"
    handler = logging.StreamHandler(target)
    handler.setFormatter(JSONLine() if style == "json" else ConsoleLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def redact(text: str) -> str:
    """Blot out session tokens, tickets, bearer values and passwords in URLs.

    Most texts hold none, which is found out in a tenth of what the patterns take. What
    is beyond ASCII goes to them: they have ideas of their own of what is one letter.
    """
    if text.isascii() and _LONG.search(text) is None:
        lower = text.lower()
        if not any(sign in lower for sign in _SIGNS):
            return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def escape(text: str) -> str:
    r"""Make one printable line of any text: a newline becomes the two characters \n."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


class ConsoleLine(logging.Formatter):
    """`12:00:00.123 INFO  cfmessenger.room message [request id] key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = [
            f"{clock}.{int(record.msecs):03d}",
            f"{record.levelname:<7}",
            record.name,
            _message(record),
        ]
        if (current := request_id.get()) is not None:
            line.append(f"[{current}]")
        line += (f"{name}={value}" for name, value in _extras(record).items())
        if trace := _trace(self, record):
            line.append(trace)
        return escape(redact(" ".join(line)))


class JSONLine(logging.Formatter):
    """One JSON object: ts (ms), level, logger, message, then whatever else is known."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = _extras(record)
        entry |= {
            "ts": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if (current := request_id.get()) is not None:
            entry["requestId"] = current
        if trace := _trace(self, record):
            entry["exception"] = trace
        first = ("ts", "level", "logger", "message")
        ordered = {name: entry.pop(name) for name in first} | entry
        # ASCII leaves no control character, separator or lone surrogate in the line.
        return json.dumps(
            {
                name: redact(value) if isinstance(value, str) else value
                for name, value in ordered.items()
            }
        )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # logging would print the arguments, unredacted and on many lines.
        return f"{record.msg!s} [cannot be formatted: {type(error).__name__}]"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: _extra(name, value)
        for name, value in vars(record).items()
        # An underscore is a library talking to itself: Ray stamps every record.
        if name not in _STANDARD and not name.startswith("_")
    }


def _extra(name: str, value: object) -> object:
    if _SECRET_NAME.fullmatch(name):
        return _BLOT
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    # record.exc_text is not used as a cache: another formatter may have filled it.
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return formatter.formatStack(record.stack_info) if record.stack_info else ""
