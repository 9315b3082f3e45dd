"""Reading the envelope around every HTTP answer (wire.md §1), refused upgrades too.

Owns `{success, data?, error?, meta}` as seen by a client. Must not do I/O.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from cfmessenger.client.errors import ApiError

T = TypeVar("T")


class _Error(msgspec.Struct):
    code: str
    message: str = ""


class _Meta(msgspec.Struct):
    timestamp: int = 0


class _Envelope(msgspec.Struct):
    success: bool
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    meta: _Meta | None = None


_decoder = msgspec.json.Decoder(_Envelope)


def data_and_time(body: bytes, kind: type[T]) -> tuple[T, int]:
    """`data` as `kind`, and the server's clock in Unix ms (0: not told).

    Raises `msgspec.DecodeError` or `RecursionError` for anything else.
    """
    envelope = _decoder.decode(body)
    timestamp = envelope.meta.timestamp if envelope.meta is not None else 0
    return msgspec.json.decode(envelope.data, type=kind), timestamp


def api_error(status: int, body: bytes, retry_after: str | None) -> ApiError:
    """The typed error in an HTTP answer, whatever its body turns out to be."""
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    code, message = f"HTTP_{status}", f"HTTP status {status}"
    try:
        error = _decoder.decode(body).error
    except (msgspec.DecodeError, RecursionError):
        error = None
    if error is not None:
        code, message = error.code, error.message or error.code
    return ApiError(status, code, message, retry_after_s=seconds)
