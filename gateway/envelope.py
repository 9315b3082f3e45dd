"""The shape of every answer: `{success, data?, error?, meta}` (wire.md §1).

Owns the JSON of the envelope, the id of the request being answered, and `Refusal`: an
error on its way to a client, as an HTTP answer or instead of a WebSocket handshake.
Messages are the table's or the thrower's fixed words; nothing of an exception that is
not `ProtocolError` or `Unavailable` may get here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response
from starlette.types import Send

from cfmessenger.clock import Clock
from cfmessenger.errors import ERRORS, ProtocolError, Unavailable
from cfmessenger.ids import sane_request_id
from cfmessenger.log_format import request_id as REQUEST_ID

Headers = list[tuple[bytes, bytes]]

NOW: ContextVar[Callable[[], int]] = ContextVar("now", default=Clock().now)
"""The answering gateway's clock in Unix ms: the same for `meta.timestamp` and for
`expiresAt`, which clients compare."""

RETRY_AFTER_S = 1  # of a 503: by then a restarted part is usually back


class _Error(msgspec.Struct):
    code: str
    message: str


class _Meta(msgspec.Struct):
    timestamp: int
    requestId: str


class _Envelope(msgspec.Struct):
    success: bool
    meta: _Meta
    data: Any = UNSET
    error: _Error | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's `X-Request-Id` if it is a sane token, else a new UUID."""
    for name, value in headers:
        if name == b"x-request-id":
            if chosen := sane_request_id(value.decode("latin-1")):
                return chosen
            break
    return str(uuid.uuid4())


def _meta(request_id: str | None = None) -> _Meta:
    return _Meta(NOW.get()(), request_id or REQUEST_ID.get() or str(uuid.uuid4()))


def success(data: Any) -> bytes:
    """The envelope around `data` (structs, dicts, lists)."""
    return _encode(_Envelope(True, _meta(), data=data))


def failure(code: str, message: str, request_id: str | None = None) -> bytes:
    """The envelope around an error. `message` is shown to the client as it is."""
    return _encode(_Envelope(False, _meta(request_id), error=_Error(code, message)))


def ok(data: Any, status: int = 200) -> Response:
    """The successful answer to the current request."""
    return Response(success(data), status, media_type="application/json")


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not served: status, code, message and further headers."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = {}

    @classmethod
    def of(
        cls,
        code: str,
        message: str | None = None,
        *,
        retry_after_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Refusal:
        """A refusal with the table's status. A 503 or a wait carries `Retry-After`."""
        row = ERRORS[code]
        named = dict(headers or {})
        if retry_after_ms is not None:
            named["Retry-After"] = str(max(1, -(-retry_after_ms // 1000)))
        elif row.status == 503:
            named["Retry-After"] = str(RETRY_AFTER_S)
        if code == "UPGRADE_REQUIRED":
            named |= {"Upgrade": "websocket", "Connection": "Upgrade"}
        return cls(row.status, code, message or row.message, named)

    @classmethod
    def from_error(cls, error: ProtocolError | Unavailable) -> Refusal:
        """What one of our two exceptions becomes for a client."""
        if isinstance(error, ProtocolError):
            return cls.of(
                error.code, error.message, retry_after_ms=error.retry_after_ms
            )
        # Which part of us is away is for the log.
        return cls.of(
            error.code, None if error.code == "UNAVAILABLE" else error.message
        )

    def response(self) -> Response:
        """The answer to the current request, HTTP or a handshake before accept."""
        return Response(
            failure(self.code, self.message),
            self.status,
            headers=dict(self.headers),
            media_type="application/json",
        )


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answers a WebSocket handshake with status and envelope, before any accept."""
    response = refusal.response()
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body})
