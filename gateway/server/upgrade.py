"""A WebSocket's opening request, told from all others by its first bytes.

Nearly every socket begins with one whole, plain request in one read. h11 would take it
apart in a third of a millisecond and uvicorn put it together again for websockets,
which takes 60 us to take it apart once more and say yes; here it is recognised, and
checked as strictly, in a twentieth of that. Whatever is not plain goes h11's way, and
what is no good handshake websockets', which have an answer for it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_BYTES = 8 * 1024 - 64
"""Of the whole request; so no line of it can be longer than what websockets takes."""

# RFC 9112 §3 and §5, without what is lenient there: CRLF ends a line and nothing else
# does, none is folded, the target is in origin form, a value is ASCII.
_HEAD = re.compile(
    rb"GET /[!-~]{0,4000} HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t -~]*\r\n){1,100})\r\n"
)
_HEADER = re.compile(rb"([^:\r\n]+):[\t ]*([^\r\n]*?)[\t ]*\r\n")
# RFC 9112 §3.2: an invalid Host is a 400, for what is built from it may be believed.
HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")

# RFC 6455 §4.1: 16 bytes in base64.
_KEY = re.compile(rb"[+/0-9A-Za-z]{21}[AQgw]==\Z")
_TOKENS = re.compile(
    rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:[\t ]*,[\t ]*[-!#$%&'*+.^_`|~0-9A-Za-z]+)*\Z"
)
_AT_MOST_ONCE = tuple(
    b"sec-websocket-" + name for name in (b"key", b"version", b"protocol")
) + (b"origin",)

_ONCE = (b"host", b"connection", b"upgrade")
_BODY = frozenset((b"content-length", b"transfer-encoding", b"expect"))

Headers = list[tuple[bytes, bytes]]


def plain_upgrade(data: bytes) -> Headers | None:
    """The headers, names in lower case, of what is one upgrade to WebSocket from its
    first byte to its last; None: it is not, or not so plain."""
    if len(data) > MOST_BYTES:
        return None
    head = _HEAD.fullmatch(data)
    if head is None:
        return None
    headers = [(name.lower(), value) for name, value in _HEADER.findall(head[1])]
    names = [name for name, _ in headers]
    if any(names.count(name) != 1 for name in _ONCE) or not _BODY.isdisjoint(names):
        return None
    said = dict(headers)
    wanted = [token.strip() for token in said[b"connection"].lower().split(b",")]
    if b"upgrade" not in wanted or said[b"upgrade"].lower() != b"websocket":
        return None
    return headers if HOST.match(said[b"host"]) else None


def key_of(headers: Headers) -> bytes | None:
    """The key of a plain upgrade to WebSocket of version 13 that nothing is wrong with
    (RFC 6455 §4.2.1); None: something is, or it is said in an unusual way."""
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _AT_MOST_ONCE):
        return None
    said = dict(headers)
    right = (
        said.get(b"sec-websocket-version") == b"13"
        and _TOKENS.match(said[b"connection"])
        and _TOKENS.match(said.get(b"sec-websocket-protocol", b"none"))
    )
    found = _KEY.match(said.get(b"sec-websocket-key", b"")) if right else None
    return None if found is None else found[0]


def request_of(data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The same request with these headers."""
    lines = [data[: data.index(b"\r\n")], *(b"%b: %b" % each for each in headers)]
    return b"\r\n".join((*lines, b"", b""))
