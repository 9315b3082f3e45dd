"""What a proxy in front says about a request: believed of a trusted one alone.

At the door every request loses what its client could have made up: `Forwarded`
(RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host` of whoever is not in
CFM_TRUSTED_PROXIES. A trusted proxy's are brought into the one form that is read
further in: lists (`https,http`) and upper case come from chains of proxies, and the
first element is what the client used. So behind the door these headers are true. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

_FOR = b"x-forwarded-for"
_PROTO = b"x-forwarded-proto"
HOST = b"x-forwarded-host"
_STANDARD = b"forwarded"
NAMES = frozenset((_FOR, _PROTO, HOST, _STANDARD))
"""The headers that only a trusted proxy may send, in lower case."""

_PAIR = re.compile(rb'\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*\Z')
_COMMA = re.compile(rb',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')  # not within quotes
_SEMICOLON = re.compile(rb';(?=(?:[^"]*"[^"]*")*[^"]*\Z)')


def settled(headers: Iterable[tuple[bytes, bytes]], trusted: bool) -> Headers:
    """The request's headers (names in lower case) with what was forwarded settled."""
    headers = list(headers)
    kept = [header for header in headers if header[0] not in NAMES]
    if not trusted:
        return kept
    chain = _chain(_joined(headers, _STANDARD))
    first = chain[0] if chain else {}
    addresses = _joined(headers, _FOR) or b", ".join(
        each[b"for"] for each in chain if b"for" in each
    )
    proto = (first.get(b"proto") or _first(headers, _PROTO)).lower()
    host = first.get(b"host") or _first(headers, HOST)
    if addresses:
        kept.append((_FOR, addresses))
    if proto in (b"http", b"https", b"ws", b"wss"):
        # For a handshake some proxies say ws; the difference is none of ours.
        kept.append((_PROTO, proto.replace(b"ws", b"http")))
    if host:
        kept.append((HOST, host))
    return kept


def _joined(headers: Headers, wanted: bytes) -> bytes:
    return b", ".join(value for name, value in headers if name == wanted)


def _first(headers: Headers, wanted: bytes) -> bytes:
    return _joined(headers, wanted).partition(b",")[0].strip()


def _chain(value: bytes) -> list[dict[bytes, bytes]]:
    """`Forwarded`, element by element; what cannot be read is left out."""
    found = []
    for element in _COMMA.split(value) if value else ():
        pairs = (_PAIR.match(pair) for pair in _SEMICOLON.split(element))
        found.append({p[1].lower(): _unquoted(p[2]) for p in pairs if p is not None})
    return found


def _unquoted(value: bytes) -> bytes:
    if value.startswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", value[1:-1])
    return value
