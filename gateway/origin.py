"""Whose page asks, and under which name: what a browser can be made to do is refused.

A foreign page may open sockets, post forms and, with a name of its own that points to
127.0.0.1 (DNS rebinding), read what it gets. So a present `Origin` must be ours or one
of CFM_ALLOWED_ORIGINS on every upgrade and every request that may change something, and
a gateway on loopback answers to no names but loopback's, its own and those of the
allowed origins. What a proxy said is true here (`forwarded`). Pure but for one line in
the log, because a refused upgrade says nothing to the page that asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.types import Scope

from cfmessenger.errors import ProtocolError
from cfmessenger.settings import Settings
from gateway import forwarded

logger = logging.getLogger("cfmessenger.origin")

LOGGED_EVERY_S = 600.0

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""RFC 9110 §9.2.1: they change nothing, and a foreign page cannot read the answer."""

BEHIND_TLS = (
    "This origin is not allowed: the page came by https, its request by http. "
    "A proxy that ends TLS has to be named in CFM_TRUSTED_PROXIES and to send "
    "X-Forwarded-Proto."
)

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def served_hosts(settings: Settings) -> frozenset[str] | None:
    """The names that a gateway with these settings answers to; None: any."""
    if not settings.loopback:
        return None
    hosts = {"localhost", "127.0.0.1", "::1", settings.host.lower()}
    return frozenset(
        hosts | {_name(urlsplit(o).netloc) for o in settings.allowed_origins}
    )


def check_host(scope: Scope, served: Collection[str] | None) -> None:
    """Raises MISDIRECTED_REQUEST for a name that is not served (RFC 9110 §7.4).

    A request that a trusted proxy forwarded is its business: whoever comes through it
    is no page that was rebound to loopback.
    """
    if served is None or _values(scope["headers"], forwarded.NAMES):
        return
    for host in _values(scope["headers"], (b"host",)):
        if _name(host) not in served:
            raise ProtocolError("MISDIRECTED_REQUEST")


def check_method(scope: Scope, allowed: Collection[str]) -> None:
    """Raises ORIGIN_NOT_ALLOWED for a foreign page's request that may change things.

    Without an `Origin`, `Sec-Fetch-Site: cross-site` is as good a witness.
    """
    if scope["method"] in SAFE_METHODS:
        return
    check_origin(scope, allowed)
    headers = scope["headers"]
    if not _values(headers, (b"origin",)) and "cross-site" in (
        value.lower() for value in _values(headers, (b"sec-fetch-site",))
    ):
        raise ProtocolError("ORIGIN_NOT_ALLOWED")


def check_origin(scope: Scope, allowed: Iterable[str]) -> None:
    """Raises ORIGIN_NOT_ALLOWED unless Origin is absent, our own or in the list.

    Our own is the scheme, host and port the request itself was sent to; `null`, a
    prefix or a suffix of an allowed one is none.
    """
    headers = scope["headers"]
    origins = set(_values(headers, (b"origin",)))
    if not origins:
        return
    if len(origins) > 1:
        raise ProtocolError("ORIGIN_NOT_ALLOWED")
    origin = origins.pop().lower()
    if origin in allowed:
        return
    scheme = "https" if scope["scheme"] in ("wss", "https") else "http"
    hosts = _values(headers, (forwarded.HOST,)) or _values(headers, (b"host",))
    for host in hosts[:1]:
        if origin == _origin(scheme, host) or (
            origin.removesuffix(_DEFAULT_PORTS[scheme]) == _origin(scheme, host)
        ):
            return
        if scheme == "http" and origin == _origin("https", host):
            _explain(origin)
            raise ProtocolError("ORIGIN_NOT_ALLOWED", BEHIND_TLS)
    raise ProtocolError("ORIGIN_NOT_ALLOWED")


def _origin(scheme: str, host: str) -> str:
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS[scheme])}"


def _name(host: str) -> str:
    """The host without its port, an IPv6 address without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _values(
    headers: Iterable[tuple[bytes, bytes]], wanted: Collection[bytes]
) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name in wanted]


_explained_at = -LOGGED_EVERY_S  # the last time it was logged, monotonic


def _explain(origin: str) -> None:
    global _explained_at
    now = time.monotonic()
    if now - _explained_at < LOGGED_EVERY_S:
        return
    _explained_at = now
    logger.warning(
        "refused a page of %s whose requests come by http: if a proxy ends TLS, name "
        "it in CFM_TRUSTED_PROXIES (it must send X-Forwarded-Proto), or the page's "
        "origin in CFM_ALLOWED_ORIGINS",
        origin,
    )
