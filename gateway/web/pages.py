"""Serving the web client: the page at `/`, and its parts under a name of their content.

Every file of `static` is read once, when the gateway starts. The parts live under
`/web/<version>/`, where the version is a hash over all of them: modules import each
other by relative paths, so one name covers the whole graph without a build step, and
each part may be kept for ever. The page itself is asked about each time (ETag) and
names every module with its integrity, so nothing runs that the page did not mean.

A page from one release and parts from another never mix: an unknown version is a 404.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cfmessenger.errors import ProtocolError
from gateway.api.docs.pages import Page

TURNSTILE_HOST = "https://challenges.cloudflare.com"
# Cloudflare's published test keys ("Testing", Turnstile documentation): their widget
# checks nobody, so the page shows a stand-in and no script of a third party.
TURNSTILE_TEST_KEYS = frozenset(
    {
        "1x00000000000000000000AA",
        "2x00000000000000000000AB",
        "1x00000000000000000000BB",
        "2x00000000000000000000BB",
        "3x00000000000000000000FF",
    }
)
_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# A comment of types and their explanation, which stands on lines of its own.
_COMMENT = re.compile(
    rb"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n", re.MULTILINE | re.DOTALL
)
# What every answer carries besides is the middleware's.
_HEADERS = {"Vary": "Accept-Encoding"}
_FOR_EVER = _HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}


def policy(site_key: str) -> str:
    """The page's Content-Security-Policy: our own origin and nothing inline.

    Only a real Turnstile key lets its one host in; without it, strings cannot become
    script or markup either (Trusted Types, which Turnstile's own script does not use).
    """
    third = f" {TURNSTILE_HOST}" if is_real(site_key) else ""
    frames = third or " 'none'"
    rules = [
        "default-src 'none'",
        f"script-src 'self'{third}",
        f"connect-src 'self'{third}",
        "style-src 'self'",
        "img-src 'self' data:",
        "manifest-src 'self'",
        f"frame-src{frames}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    if not third:
        rules += ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return "; ".join(rules)


def is_real(site_key: str) -> bool:
    """Whether this key asks Cloudflare: set, and none of the published test keys."""
    return bool(site_key) and site_key not in TURNSTILE_TEST_KEYS


class Part(msgspec.Struct, frozen=True):
    """One file in the two forms it is sent in, each with an ETag of its own."""

    plain: Page
    zipped: Page

    @classmethod
    def of(cls, body: bytes, media_type: str, headers: dict[str, str]) -> Part:
        """Both forms of a body, with these headers."""
        zipped = gzip.compress(body, 9, mtime=0)
        encoded = headers | {"Content-Encoding": "gzip"}
        return cls(
            Page.of(body, media_type, headers),
            Page.of(zipped, media_type, encoded),
        )

    def answer(self, request: Request) -> Response:
        """In gzip for who takes it; 304 for who has it."""
        accepted = request.headers.get("accept-encoding", "")
        return (self.zipped if _takes_gzip(accepted) else self.plain).answer(request)


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def build(site_key: str) -> dict[str, Part]:
    """Everything there is to serve, by path; the page itself is `/`."""
    folder = files(__package__) / "static"
    bodies = dict(sorted(_walk(folder)))
    page = bodies.pop("index.html").decode()
    digest = hashlib.sha256()
    for name, body in bodies.items():
        digest.update(f"{name}\0{len(body)}\0".encode() + body)
    root = f"/web/{digest.hexdigest()[:16]}/"
    headers = _HEADERS | {
        "Cache-Control": "no-cache",  # kept, and asked about each time
        "Content-Security-Policy": policy(site_key),
        "X-Frame-Options": "DENY",
    }
    html = _with_parts(page, root, bodies).encode()
    parts = {"/": Part.of(html, _MEDIA_TYPES["html"], headers)}
    for name, body in bodies.items():
        kind = name.rpartition(".")[2]
        parts[root + name] = Part.of(body, _MEDIA_TYPES[kind], _FOR_EVER)
    return parts


def _walk(folder: Traversable, before: str = "") -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        name = before + each.name
        if each.is_dir():
            yield from _walk(each, name + "/")
        elif name.rpartition(".")[2] in _MEDIA_TYPES:
            body = each.read_bytes()
            yield name, _lean(body) if name.endswith(".js") else body


def _lean(module: bytes) -> bytes:
    """Without what only readers of the source and its type check need. The lines stay,
    so that a browser's line numbers are those of the file."""
    return _COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), module)


def _with_parts(page: str, root: str, bodies: dict[str, bytes]) -> str:
    """The page with the list of its parts where `<!-- parts -->` stands."""
    lines = [
        f'<link rel="stylesheet" href="{root}{name}" integrity="{_integrity(body)}">'
        for name, body in bodies.items()
        if name.endswith(".css")
    ]
    # A module's integrity is checked where it is fetched first: all of them here.
    lines += [
        f'<link rel="modulepreload" href="{root}{name}" integrity="{_integrity(body)}">'
        for name, body in bodies.items()
        if name.endswith(".js")
    ]
    start = "js/main.js"
    lines.append(
        f'<script type="module" src="{root}{start}" '
        f'integrity="{_integrity(bodies[start])}"></script>'
    )
    return page.replace("<!-- parts -->", "\n".join(lines)).replace("{root}", root)


def _integrity(body: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(body).digest()).decode()


async def serve(request: Request) -> Response:
    """GET / and GET /web/{version}/{path}"""
    parts: dict[str, Part] = request.app.state.web
    part = parts.get(request.scope["path"])
    if part is None:
        raise ProtocolError("NOT_FOUND")
    return part.answer(request)
