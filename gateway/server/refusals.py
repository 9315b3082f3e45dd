"""What uvicorn's two protocols answer and log where no endpoint is reached.

What is refused below the application is an envelope as well. Lines about it are
sampled, for a malformed request costs whoever sends it nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cfmessenger.errors import ERRORS, Where, codes
from gateway.envelope import RETRY_AFTER_S, choose_request_id, failure
from gateway.middleware import SECURITY

LOGGED_PER_S = 20
"""Lines a second about malformed requests."""

LINGER_S = 2.0
"""How long a peer has to read why it is thrown out. Closing at once, with its bytes
still coming, would make TCP throw the answer away."""

# Level and filter are on our own logger: uvicorn's, at INFO, prints the URL of every
# handshake with its query, and websockets', at DEBUG, every header.
log = logging.getLogger("cfmessenger.server")
quiet = logging.getLogger("cfmessenger.server.connection")
quiet.setLevel(logging.WARNING)

_POSSIBLE = (
    *codes(Where.BELOW),
    *("FORBIDDEN", "METHOD_NOT_ALLOWED", "INTERNAL_ERROR", "UNAVAILABLE"),
)
MALFORMED = {ERRORS[code].status: (code, ERRORS[code].message) for code in _POSSIBLE}
MALFORMED[426] = ("UPGRADE_REQUIRED", "This is a WebSocket endpoint, version 13.")
MALFORMED[505] = ("BAD_REQUEST", "Only HTTP/1.1 is spoken here.")
"""Code and words by status; any other status has those of 400."""


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Answered 1007 and 400; a traceback for each would be a way to fill disks.
        return not str(record.msg).startswith(("Invalid UTF-8", "Invalid HTTP request"))


quiet.addFilter(_Quiet())


class _Sampled(logging.Filter):
    """So many lines a second, and how many there would have been besides."""

    def __init__(self) -> None:
        super().__init__()
        # The second of the last line, lines in it, and lines not printed since the
        # last that was.
        self._second = self._lines = self._unsaid = 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > LOGGED_PER_S:
            self._unsaid += 1
            return False
        if self._unsaid:
            record.msg = f"{record.getMessage()} ({self._unsaid} more before it)"
            record.args = None
            self._unsaid = 0
        return True


log.addFilter(_Sampled())


class Timer:
    """One deadline that may be set and dropped many times; ringing does not drop it.

    It knows its owner only while it runs, so that what a connection no longer needs
    (the HTTP protocol of every WebSocket) is freed at once and not by the collector.
    """

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None  # from `set` until `drop`

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in so many seconds; nothing if it is set already."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, act)

    def drop(self) -> None:
        """No deadline any more; nothing if there is none."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def refusal(
    status: int, given: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of the answer `status`; `given` are the request's headers."""
    code, message = MALFORMED.get(status, MALFORMED[400])
    request_id = choose_request_id(given)
    body = failure(code, message, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        *SECURITY,
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return body, headers
