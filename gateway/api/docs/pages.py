"""Serving the documents: the two JSON files, and the page at /docs with its parts.

All of it is made once, when the gateway starts, and is the same for everyone; a client
that has it already is told so (304). Nothing on the page comes from elsewhere: the
policy allows our own script, style and requests, and nothing inline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.docs import asyncapi as asyncapi_3
from gateway.api.docs import openapi as openapi_3
from gateway.api.docs.operation import Operation

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What every answer carries besides is the middleware's.
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked about each time
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
}
_DATA_HEADERS = {"Cache-Control": "no-cache"}
_PARTS = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.mjs": "text/javascript; charset=utf-8",
}


class Page(msgspec.Struct, frozen=True):
    """What is served under one path, ready to send."""

    body: bytes
    media_type: str
    headers: dict[str, str]

    @classmethod
    def of(cls, body: bytes, media_type: str, headers: dict[str, str]) -> Page:
        """With an ETag of its content."""
        tag = hashlib.sha256(body).hexdigest()[:16]
        return cls(body, media_type, headers | {"ETag": f'"{tag}"'})

    def answer(self, request: Request) -> Response:
        """All of it, or 304 for a client that has it."""
        known = request.headers.get("if-none-match", "")
        if _matches(known, self.headers["ETag"]):
            return Response(status_code=304, headers=self.headers)
        return Response(
            self.body, headers=self.headers | {"Content-Type": self.media_type}
        )


def _matches(known: str, tag: str) -> bool:
    # RFC 9110 §13.1.2: a list, or `*`; weak tags compare as strong ones do.
    listed = [each.strip().removeprefix("W/") for each in known.split(",")]
    return tag in listed or "*" in listed


def build(operations: Iterable[Operation]) -> dict[str, Page]:
    """Everything there is to serve, by name."""
    documents = {
        "openapi": openapi_3.document(operations),
        "asyncapi": asyncapi_3.document(),
    }
    folder = files("gateway.api.docs")
    return {
        **{
            name: Page.of(
                msgspec.json.encode(document), "application/json", _DATA_HEADERS
            )
            for name, document in documents.items()
        },
        **{
            name: Page.of((folder / name).read_bytes(), media_type, _HEADERS)
            for name, media_type in _PARTS.items()
        },
    }


def _page(request: Request, name: str) -> Response:
    pages: dict[str, Page] = request.app.state.pages
    return pages[name].answer(request)


async def openapi(request: Request) -> Response:
    """GET /api/openapi.json"""
    return _page(request, "openapi")


async def asyncapi(request: Request) -> Response:
    """GET /api/asyncapi.json"""
    return _page(request, "asyncapi")


async def page(request: Request) -> Response:
    """GET /docs"""
    return _page(request, "page.html")


async def style(request: Request) -> Response:
    """GET /docs/page.css"""
    return _page(request, "page.css")


async def script(request: Request) -> Response:
    """GET /docs/page.mjs"""
    return _page(request, "page.mjs")
