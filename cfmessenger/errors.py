"""The one table of errors: code, HTTP status, message, where it can occur; close codes.

Owns every UPPER_SNAKE code of wire.md §1 and §3 and every close code of §6 with what
it tells a client, and the two exceptions that carry them. The documents, the gateway's
refusals and the client library are made from it; the web client's copies are compared
with it by `tests/test_docs.py`. A third kind of failure, our own bug, is an
`AssertionError` and shows up as INTERNAL_ERROR or 1011.

Must not format responses or frames: the gateway and `protocol` do that. Nothing here
may repeat a value a client sent: a message names a field and its rule, no more.
"""

from enum import Flag, IntEnum, auto
from typing import Self

import msgspec


class CloseCode(IntEnum):
    """Why a WebSocket ends (wire.md §6): 4000-4499 reconnect, 4500-4999 final.

    `description` tells it to a client's author.
    """

    description: str

    def __new__(cls, code: int, description: str) -> Self:
        made = int.__new__(cls, code)
        made._value_ = code
        made.description = description
        return made

    GOING_AWAY = 1001, "Going away."
    PROTOCOL_ERROR = 1002, "Protocol error."
    BINARY_FRAME = 1003, "A binary frame; only text is spoken here."
    INVALID_UTF8 = 1007, "Text that is not UTF-8."
    TOO_BIG = 1009, "A message over 64 KiB or in more than 64 fragments."
    INTERNAL_ERROR = 1011, "A fault of ours."
    RESTART = 1012, "The gateway restarts or drains: reconnect."
    TRY_AGAIN_LATER = 1013, "Overload, or this client reads too slowly."
    HEARTBEAT_TIMEOUT = (
        4400,
        "No frame of any kind for 90 s, pongs included (a ping comes every 20 s).",
    )
    SESSION_EXPIRED = 4500, "The session has ended."
    LOGGED_OUT = 4501, "Logged out."
    FORBIDDEN = 4503, "Not allowed here (any more)."
    ABUSE = (
        4508,
        "More than 20 bad frames a minute, more than 10 WebSocket pings a second, or "
        "more than 200 frames a second for 5 s.",
    )

    @property
    def reconnect(self) -> bool:
        """Whether a client should try again: not if it would only do the same."""
        # 1002 to 1009 are its own fault.
        return self.value < 4500 and not 1002 <= self.value <= 1009


class Where(Flag):
    """Where an error can occur; nowhere: where an endpoint's own row names it."""

    BELOW = auto()  # about HTTP itself, whatever the path
    ENDPOINT = auto()  # any endpoint
    SESSION = auto()  # an endpoint that takes a session
    BODY = auto()  # an endpoint that takes a body
    ROOM = auto()  # an endpoint that names a room
    SOCKET = auto()  # the handshake of either socket
    ENTRY = auto()  # the handshake of a room's socket, beside those two
    FRAME = auto()  # an `error` frame


class Row(msgspec.Struct, frozen=True, gc=False):
    """One error: its HTTP status, its words, and where it can occur."""

    status: int
    message: str
    where: Where = Where(0)

    @property
    def retryable(self) -> bool:
        """Whether the same may do later."""
        return worth_a_retry(self.status)


def worth_a_retry(status: int) -> bool:
    """Whether what is refused with this HTTP status may do later."""
    return status == 429 or status >= 500


ERRORS: dict[str, Row] = {
    "BAD_REQUEST": Row(400, "The request is malformed.", Where.BELOW),
    "URI_TOO_LONG": Row(414, "The URL is too long.", Where.BELOW),
    "HEADERS_TOO_LARGE": Row(
        431, "The headers are too large or too many.", Where.BELOW
    ),
    # Sessions, rooms and sockets, in the order in which a handshake is checked.
    "UPGRADE_REQUIRED": Row(426, "This is a WebSocket endpoint.", Where.SOCKET),
    "ORIGIN_NOT_ALLOWED": Row(403, "This origin is not allowed.", Where.SOCKET),
    "AUTH_REQUIRED": Row(401, "A session is required.", Where.SESSION),
    "AUTH_EXPIRED": Row(401, "The session is not valid (any more).", Where.SESSION),
    "INVALID_ROOM_ID": Row(400, "The room id is malformed.", Where.ROOM),
    "INVALID_JSON": Row(400, "The body is not valid JSON.", Where.BODY | Where.FRAME),
    "VALIDATION_ERROR": Row(
        400,
        "A field is missing or out of range.",
        Where.BODY | Where.ENTRY | Where.FRAME,
    ),
    "ROOM_RESERVED": Row(403, "The room id is reserved.", Where.ROOM),
    "ROOM_NOT_FOUND": Row(404, "There is no such room.", Where.ROOM),
    "NOT_A_PARTICIPANT": Row(403, "Only its participants may enter.", Where.ROOM),
    "RATE_LIMITED": Row(
        429, "Too many in too short a time.", Where.ENTRY | Where.FRAME
    ),
    "AT_CAPACITY": Row(503, "No more sockets right now.", Where.SOCKET),
    "UNAVAILABLE": Row(503, "Not available right now.", Where.ENDPOINT | Where.SOCKET),
    # Everywhere on HTTP.
    "NOT_FOUND": Row(404, "There is nothing here.", Where.ENDPOINT),
    "METHOD_NOT_ALLOWED": Row(405, "This method is not allowed here.", Where.ENDPOINT),
    "PAYLOAD_TOO_LARGE": Row(413, "The body is too large.", Where.ENDPOINT),
    "UNSUPPORTED_MEDIA_TYPE": Row(415, "The body must be JSON.", Where.BODY),
    "MISDIRECTED_REQUEST": Row(
        421,
        "This host name is not served here. On loopback, CFM_ALLOWED_ORIGINS has to "
        "name it.",
        Where.ENDPOINT,
    ),
    # Login.
    "TURNSTILE_REQUIRED": Row(403, "A Turnstile token is required."),
    "TURNSTILE_FAILED": Row(403, "The Turnstile check failed."),
    "TURNSTILE_UNAVAILABLE": Row(503, "Turnstile cannot be reached."),
    "USER_NOT_FOUND": Row(404, "There is no such user."),
    # Collections.
    "FORBIDDEN": Row(403, "This is not allowed."),
    "COLLECTION_NOT_FOUND": Row(404, "There is no such collection."),
    "QUOTA_EXCEEDED": Row(403, "You keep as much as you may: delete something first."),
    "CONFLICT": Row(409, "The change does not fit the present state."),
    "PRECONDITION_FAILED": Row(412, "The row has changed since."),
    # Frames of a socket.
    "TOO_LARGE": Row(413, "A frame is at most 16 KiB.", Where.FRAME),
    "UNKNOWN_TYPE": Row(400, "There is no such frame type.", Where.FRAME),
    "ID_REUSED": Row(
        409,
        "This id was used for other words, which stand: send these with a new id.",
        Where.FRAME,
    ),
    "STORAGE_UNAVAILABLE": Row(
        503,
        "Not confirmed by storage: send it again with the same id.",
        Where.FRAME,
    ),
    "INTERNAL_ERROR": Row(
        500, "Something went wrong on our side.", Where.ENDPOINT | Where.FRAME
    ),
}


def codes(where: Where) -> tuple[str, ...]:
    """The codes that can occur at any of these, in the table's order."""
    return tuple(code for code, row in ERRORS.items() if row.where & where)


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
