"""What a row of the table of operations is; the rows are elsewhere.

Apart from both the endpoints and the document, which each know the other's half.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cfmessenger.errors import Where, codes

Endpoint = Callable[[Request], Awaitable[Response]]
Auth = Literal["none", "optional", "session", "socket"]

MAX_15_DIGITS = 10**15 - 1


class Parameter(msgspec.Struct, frozen=True):
    """One value in the path, the query or a header, with its JSON Schema."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: dict[str, Any]
    example: Any


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A method on a path.

    `path` is the router's, convertors included. `data` is the type of the envelope's
    `data`; `text` instead of it is the media type of an answer without an envelope.
    Without either (and without a 101) it never succeeds. `errors` are the codes of this
    row alone. `links` name an operation that can follow, its parameter, and where in
    this answer the value is.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    endpoint: Endpoint
    name: str
    tag: str
    summary: str
    description: str = ""
    auth: Auth = "none"
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    request_example: Any = None
    data: Any = None
    example: Any = None
    text: str = ""
    status: int = 200
    errors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    links: tuple[tuple[str, str, str], ...] = ()

    @property
    def codes(self) -> list[str]:
        """Every error code it may answer with, its own first, each once."""
        found = list(self.errors)
        if self.request is not None:
            found += codes(Where.BODY)
        if self.auth in ("session", "socket"):
            found += codes(Where.SESSION)
        elif self.auth == "optional":
            found.append("AUTH_EXPIRED")
        if self.method != "GET":
            found.append("ORIGIN_NOT_ALLOWED")
        return list(dict.fromkeys([*found, *codes(Where.ENDPOINT)]))
