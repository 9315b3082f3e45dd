"""The one table of errors: code, HTTP status, close code, retryable, message.

Owns every UPPER_SNAKE code of wire.md §1 and §3 and every close code of §6, and the
two exceptions that carry them. A third kind of failure, our own bug, is an
`AssertionError` and shows up as INTERNAL_ERROR or 1011.

Must not format responses or frames: the gateway and `protocol` do that. Nothing here
may repeat a value a client sent: a message names a field and its rule, no more.
"""

from enum import IntEnum

import msgspec


class CloseCode(IntEnum):
    """Why a WebSocket ends (wire.md §6): 4000-4499 reconnect, 4500-4999 final."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    BINARY_FRAME = 1003
    INVALID_UTF8 = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012
    TRY_AGAIN_LATER = 1013
    HEARTBEAT_TIMEOUT = 4400
    SESSION_EXPIRED = 4500
    LOGGED_OUT = 4501
    FORBIDDEN = 4503
    ABUSE = 4508


class Row(msgspec.Struct, frozen=True, gc=False):
    """One error: `status` for HTTP, `close` where it can end a socket."""

    status: int
    message: str
    retryable: bool = False
    close: CloseCode | None = None


ERRORS: dict[str, Row] = {
    # Everywhere on HTTP.
    "INVALID_JSON": Row(400, "The body is not valid JSON."),
    "VALIDATION_ERROR": Row(400, "A field is missing or out of range."),
    "NOT_FOUND": Row(404, "There is nothing here."),
    "METHOD_NOT_ALLOWED": Row(405, "This method is not allowed here."),
    "PAYLOAD_TOO_LARGE": Row(413, "The body is too large."),
    "UNSUPPORTED_MEDIA_TYPE": Row(415, "The body must be JSON."),
    "MISDIRECTED_REQUEST": Row(
        421,
        "This host name is not served here. On loopback, CFM_ALLOWED_ORIGINS has to "
        "name it.",
    ),
    "INTERNAL_ERROR": Row(
        500, "Something went wrong on our side.", True, CloseCode.INTERNAL_ERROR
    ),
    "UNAVAILABLE": Row(
        503, "Not available right now.", True, CloseCode.TRY_AGAIN_LATER
    ),
    # Sessions and login.
    "AUTH_REQUIRED": Row(401, "A session is required."),
    "AUTH_EXPIRED": Row(
        401, "The session is not valid (any more).", False, CloseCode.SESSION_EXPIRED
    ),
    "TURNSTILE_REQUIRED": Row(403, "A Turnstile token is required."),
    "TURNSTILE_FAILED": Row(403, "The Turnstile check failed."),
    "TURNSTILE_UNAVAILABLE": Row(503, "Turnstile cannot be reached.", True),
    "USER_NOT_FOUND": Row(404, "There is no such user."),
    "RATE_LIMITED": Row(429, "Too many in too short a time.", True),
    # Rooms and sockets.
    "INVALID_ROOM_ID": Row(400, "The room id is malformed."),
    "ROOM_RESERVED": Row(403, "The room id is reserved."),
    "ROOM_NOT_FOUND": Row(404, "There is no such room."),
    "NOT_A_PARTICIPANT": Row(
        403, "Only its participants may enter.", False, CloseCode.FORBIDDEN
    ),
    "UPGRADE_REQUIRED": Row(426, "This is a WebSocket endpoint."),
    "ORIGIN_NOT_ALLOWED": Row(403, "This origin is not allowed."),
    "AT_CAPACITY": Row(
        503, "No more sockets right now.", True, CloseCode.TRY_AGAIN_LATER
    ),
    # Frames of a socket (INVALID_JSON, VALIDATION_ERROR, RATE_LIMITED and
    # INTERNAL_ERROR: above).
    "TOO_LARGE": Row(413, "A frame is at most 16 KiB.", False, CloseCode.TOO_BIG),
    "UNKNOWN_TYPE": Row(400, "There is no such frame type."),
    "ID_REUSED": Row(
        409, "This id was used for other words, which stand: send these with a new id."
    ),
    "STORAGE_UNAVAILABLE": Row(
        503, "Not confirmed by storage: send it again with the same id.", True
    ),
    # Collections.
    "FORBIDDEN": Row(403, "This is not allowed.", False, CloseCode.FORBIDDEN),
    "COLLECTION_NOT_FOUND": Row(404, "There is no such collection."),
    "QUOTA_EXCEEDED": Row(403, "You keep as much as you may: delete something first."),
    "CONFLICT": Row(409, "The change does not fit the present state."),
    "PRECONDITION_FAILED": Row(412, "The row has changed since."),
}


class ProtocolError(Exception):
    """The client's fault: an `error` frame on a socket, a 4xx on HTTP.

    `message` names the field and the rule, never the value. `field` is put in front of
    it. `retry_after_ms` is for RATE_LIMITED. `id` is the client's own message id, when
    the frame had a valid one.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        id: str | None = None,  # noqa: A002 - the wire's name for it
    ) -> None:
        self.code = code
        self.row = ERRORS[code]
        text = message or self.row.message
        self.message = f"{field}: {text}" if field else text
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.id = id
        super().__init__(f"{code}: {self.message}")


class Unavailable(Exception):
    """Not the client's fault and worth a retry: an actor or storage is away."""

    def __init__(self, code: str = "UNAVAILABLE", message: str | None = None) -> None:
        self.code = code
        self.row = ERRORS[code]
        self.message = message or self.row.message
        super().__init__(f"{code}: {self.message}")
