"""What can go wrong for a user of the client library, as exceptions with a `code`.

Owns the exception types and how wire.md §6's final close codes map onto them. `code`
is always the server's UPPER_SNAKE code where it sent one, so that callers compare
codes, never texts. Must not decide about reconnecting: reconnect.py does.
"""

from __future__ import annotations

from cfmessenger.errors import CloseCode, worth_a_retry


class ClientError(Exception):
    """Base of everything this library raises on purpose.

    `retryable` says whether the same call may succeed later without other input.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retryable = retryable


class Unreachable(ClientError):
    """The server did not answer an HTTP request at all, or not with our envelope."""

    def __init__(self, message: str) -> None:
        super().__init__("UNREACHABLE", message, retryable=True)


class ApiError(ClientError):
    """An HTTP answer of `success: false` (wire.md §1), refused upgrades included.

    `retry_after_s` is the `Retry-After` header, None when there was none.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, retryable=worth_a_retry(status))
        self.status = status
        self.retry_after_s = retry_after_s


class SendRejected(ClientError):
    """A message was refused: by the server's `error` frame, or here before sending.

    STORAGE_UNAVAILABLE means "not confirmed": sending again with the same `id` makes
    one message; without that it may still appear, once (wire.md §5).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        id: str | None = None,  # noqa: A002 - the wire's name
        retryable: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(code, message, retryable=retryable)
        self.id = id
        self.retry_after_ms = retry_after_ms


class RateLimited(SendRejected):
    """RATE_LIMITED: allowed again after `retry_after_ms`."""


class OutboxFull(ClientError):
    """Too many messages wait for their acknowledgement; nothing was queued."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            "OUTBOX_FULL", f"{limit} messages wait already", retryable=True
        )


class SendTimeout(ClientError, TimeoutError):
    """No acknowledgement in time. The message is no longer re-sent, but it may have
    been, or still be, accepted: send again with the same `id` to know."""

    def __init__(self, message_id: str) -> None:
        super().__init__("SEND_TIMEOUT", "not acknowledged in time", retryable=True)
        self.id = message_id


class ConnectionEnded(ClientError):
    """The connection is over and will not be retried. `close_code` is the WebSocket
    close code, None when it was not a close frame that ended it."""

    def __init__(
        self, code: str, message: str, *, close_code: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.close_code = close_code


class SessionEnded(ConnectionEnded):
    """Expired (4500), logged out (4501), or no longer valid (401): log in again."""


class Refused(ConnectionEnded):
    """The server will not have us: 4503, 4508, or an upgrade refused for good."""


_FINAL: dict[int, tuple[type[ConnectionEnded], str, str]] = {
    1000: (ConnectionEnded, "CLOSED", "closed"),
    CloseCode.SESSION_EXPIRED: (SessionEnded, "AUTH_EXPIRED", "the session expired"),
    CloseCode.LOGGED_OUT: (SessionEnded, "LOGGED_OUT", "logged out"),
    CloseCode.FORBIDDEN: (Refused, "FORBIDDEN", "not allowed here"),
    CloseCode.ABUSE: (Refused, "ABUSE", "cut off for abuse"),
}


def ended_by_close(code: int, reason: str) -> ConnectionEnded:
    """The typed exception for a final close code."""
    kind, name, text = _FINAL.get(
        code,
        (ConnectionEnded, f"CLOSE_{code}", f"closed by the server with code {code}"),
    )
    if reason and reason != text:
        text = f"{text}: {reason}"
    return kind(name, text, close_code=code)
