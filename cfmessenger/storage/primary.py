"""Where the primary may be now: what the URL of a Valkey means at this moment.

A host name is resolved anew each time, a Sentinel is asked anew each time, and nothing
is listened to in between: whoever is refused asks again. It must not decide whether
what it finds is the primary; who connects there does (`server.py`).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from cfmessenger.addresses import (
    SENTINEL_SCHEMES,
    each_of,
    server_url,
    valkey_parameters,
    with_parameters,
)
from cfmessenger.errors import Unavailable
from cfmessenger.storage.resp import Connection, checked, endpoint_of, pack

SENTINEL_PORT = 26379


class Candidate(NamedTuple):
    """A server to try. `address`: of its host, which may have several; empty: as the
    URL says. `within_s`: so that the others get their turn, too."""

    url: str
    address: str
    within_s: float


class Primary:
    """What a URL leads to. Raises ValueError for one that cannot be meant."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        # The first is the last that answered, or has rested longest.
        self._urls = each_of(url)
        self._url = url
        self._service = ""  # that Sentinels are asked for; empty: they are not
        if parts.scheme in SENTINEL_SCHEMES:
            self._of_service(url)
        for each in self._urls:
            endpoint_of(each)

    def _of_service(self, url: str) -> None:
        # Of one host, since urlsplit knows no several.
        parts = urlsplit(self._urls[0])
        scheme = SENTINEL_SCHEMES[parts.scheme]
        self._service = unquote(parts.path.strip("/"))
        if not self._service or "/" in self._service:
            raise ValueError("expected valkey-sentinel://host:port,host2:port/service")
        said = valkey_parameters(url)
        name = quote(said.get("sentinel_username", ""), safe="")
        password = quote(said.get("sentinel_password", ""), safe="")
        own = f"{name}:{password}@" if password else ""
        tls = {n: v for n, v in said.items() if n.startswith("ssl_")}
        hosts = [urlsplit(each) for each in self._urls]
        self._urls = [
            with_parameters(
                f"{scheme}://{own}{_bracketed(each.hostname or '')}"
                f":{each.port or SENTINEL_PORT}",
                **tls,
            )
            for each in hosts
        ]
        endpoint_of(server_url(url, "h:1"))

    @property
    def several(self) -> bool:
        """It names more than one server, of which only one is the primary."""
        return bool(self._service) or len(self._urls) > 1

    async def candidates(
        self, timeout_s: float
    ) -> AsyncGenerator[Candidate | Unavailable, None]:
        """Servers to try, one after the other, within so many seconds in all; or why
        there is none to try there."""
        urls = tuple(self._urls)
        share_s = timeout_s / len(urls)
        for url in urls:
            try:
                if self._service:
                    share_s = timeout_s / len(urls) / 2
                    at = await self._asked(url, share_s)
                    found = [(server_url(self._url, at), "")]
                else:
                    found = [(url, each) for each in await _addresses(url)]
            except Unavailable as problem:
                yield problem
            else:
                for server, address in found:
                    yield Candidate(server, address, share_s / len(found))
            # Whoever is still here has found nothing there: others come first now.
            self._urls.remove(url)
            self._urls.append(url)

    async def _asked(self, sentinel: str, within_s: float) -> str:
        """host:port of the primary that a Sentinel knows."""
        deadline = asyncio.get_running_loop().time() + within_s
        connection = await Connection.open(sentinel, within_s)
        try:
            question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            (reply,) = await connection.send(pack([question]), 1, deadline)
        finally:
            connection.close()
        if (at := checked(reply)) is None:
            raise Unavailable(message="A Sentinel does not know this service.")
        host, port = (each.decode() for each in at)
        return f"{_bracketed(host)}:{port}"


async def _addresses(url: str) -> list[str]:
    """All that the host's name stands for now; one "" where there is no name."""
    endpoint = endpoint_of(url)
    if endpoint.path is not None or ":" in endpoint.host:
        return [""]
    if re.fullmatch(r"[0-9.]+", endpoint.host):
        return [""]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise Unavailable(message="Valkey cannot be reached.") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
