"""The addresses of a server's sockets, made from its HTTP address.

Owns URL building alone. What comes out holds a ticket: never log it.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlencode, urlsplit, urlunsplit


def websocket_url(
    url: str, path: str, ticket: str, since: int | None, era: int | None = None
) -> str:
    """`http(s)://…` to `ws(s)://…/path?ticket=…[&since=…[&era=…]]`."""
    parts = urlsplit(url)
    query = {"ticket": ticket}
    if since is not None:
        query["since"] = str(since)
        if era is not None:
            query["era"] = str(era)
    scheme = "wss" if parts.scheme == "https" else "ws"
    where = parts.path.rstrip("/") + path
    return urlunsplit((scheme, parts.netloc, where, urlencode(query), ""))


def is_loopback(url: str) -> bool:
    """Proxies from the environment are not asked for this machine's own servers."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
