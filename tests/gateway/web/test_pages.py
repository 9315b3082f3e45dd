"""The web client's files: whole, policed, cached, and nothing inline."""

import base64
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

import gateway.web as package
from gateway.web.pages import TURNSTILE_HOST, build, policy
from tests.gateway.edge import Gateway, gateway, refused

WEB = Path(package.__file__).parent / "static"
README = Path(__file__).parents[3] / "README.md"
BUDGET = 84_000  # bytes
SOURCES = [p for p in sorted(WEB.rglob("*")) if p.suffix in (".js", ".css", ".svg")]
MARKUP = re.compile(
    r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\(|new Function"
)
TAG = re.compile(
    r'<(?:link|script) [^>]*(?:href|src)="(/[^"]+)"(?: integrity="([^"]+)")?'
)


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with gateway(valkey_url) as running:
        yield running


async def test_every_part_is_named_with_its_integrity_and_kept_for_ever(
    edge: Gateway,
) -> None:
    async with edge.client() as http:
        page = await http.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["content-security-policy"] == policy("")
        tags = TAG.findall(page.text)
        code = [p for p in SOURCES if p.suffix in (".js", ".css")]
        assert {path.split("/", 3)[3] for path, _ in tags} >= {
            p.relative_to(WEB).as_posix() for p in code
        }
        for path, integrity in tags:
            part = await http.get(path)
            assert part.status_code == 200, path
            immutable = "public, max-age=31536000, immutable"
            assert part.headers["cache-control"] == immutable
            if not path.endswith(".svg"):
                digest = hashlib.sha384(part.content).digest()
                assert integrity == f"sha384-{base64.b64encode(digest).decode()}"


async def test_all_of_it_stays_small_on_the_way(edge: Gateway) -> None:
    """Bodies as they are sent, with the heads of the answers, first visit; README."""
    said = re.search(r"(\d+) KB on the way", README.read_text())
    assert said
    sent = 0
    async with edge.client() as http:
        page = await http.get("/")
        root = re.findall(r'"(/web/\w+/)', page.text)[0]
        parts = [root + p.relative_to(WEB).as_posix() for p in SOURCES]
        for path in ["/", *parts]:
            answer = await http.get(path, headers={"Accept-Encoding": "gzip"})
            assert answer.headers["content-encoding"] == "gzip", path
            sent += answer.num_bytes_downloaded + _head(answer)
    assert sent <= 1000 * int(said[1]) <= BUDGET


async def test_only_comments_of_their_own_are_left_out_and_lines_stay(
    edge: Gateway,
) -> None:
    left_out = 0
    async with edge.client() as http:
        root = re.findall(r'"(/web/\w+/)', (await http.get("/")).text)[0]
        for path in (p for p in SOURCES if p.suffix == ".js"):
            sent = await http.get(root + path.relative_to(WEB).as_posix())
            written = path.read_text().split("\n")
            for line, source in zip(sent.text.split("\n"), written, strict=True):
                if line != source:
                    left_out += 1
                    assert line == "", path
                    assert re.match(r"\s*(/\*\*|\*)", source), (path, source)
    assert left_out > 100


def _head(answer: httpx2.Response) -> int:
    line = f"{answer.http_version} {answer.status_code} {answer.reason_phrase}\r\n\r\n"
    return len(line) + sum(len(f"{n}: {v}\r\n") for n, v in answer.headers.items())


async def test_what_is_known_already_is_not_sent_again(edge: Gateway) -> None:
    async with edge.client() as http:
        first = await http.get("/")
        same = {"If-None-Match": first.headers["etag"]}
        again = await http.get("/", headers=same)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == policy("")
        other = await http.get("/", headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


async def test_gzip_where_it_is_taken_with_a_tag_of_its_own(edge: Gateway) -> None:
    async with edge.client() as http:
        zipped = await http.get("/", headers={"Accept-Encoding": "br, gzip;q=0.5"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.headers["vary"] == "Accept-Encoding"
        for refusing in ("identity", "gzip;q=0", "br"):
            plain = await http.get("/", headers={"Accept-Encoding": refusing})
            assert "content-encoding" not in plain.headers
            assert plain.text == zipped.text
            assert plain.headers["etag"] != zipped.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/web/", "/web/0123456789abcdef/js/main.js", "/web/x/../../app.py"]
)
async def test_nothing_else_is_there(edge: Gateway, path: str) -> None:
    async with edge.client() as http:
        answer = await http.get(path)
        refused(answer, 404, "NOT_FOUND", "There is nothing here.")


@pytest.mark.parametrize(
    "key", ["", "1x00000000000000000000AA", "3x00000000000000000000FF"]
)
def test_no_third_party_without_a_real_key(key: str) -> None:
    assert TURNSTILE_HOST not in policy(key)
    assert "require-trusted-types-for 'script'" in policy(key)


def test_a_real_key_lets_in_its_one_host() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy("0x4AAAAAAAreal").split("; "))
    assert rules["script-src"] == f"'self' {TURNSTILE_HOST}"
    assert rules["frame-src"] == TURNSTILE_HOST
    assert rules["default-src"] == "'none'"
    assert not any("unsafe" in rule for rule in rules.values())


def test_the_name_changes_with_the_content_alone() -> None:
    parts, again = build(""), build("0x4AAAAAAAreal")
    assert parts.keys() == again.keys()
    assert [name for name in parts if parts[name] != again[name]] == ["/"]
    for part in parts.values():
        assert gzip.decompress(part.zipped.body) == part.plain.body


def test_nothing_is_inline_and_no_string_becomes_markup() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src)", page)
    for path in SOURCES:
        text = path.read_text()
        assert not MARKUP.search(text), path
        if path.suffix == ".svg":
            assert not re.search(r"<script|style=|\son\w+=", text), path
        # Nothing is fetched from elsewhere but Turnstile, and only that by name.
        elsewhere = set(re.findall(r"https?://[\w.-]+", text))
        allowed = {"http://www.w3.org"}
        if path.name == "signin.js":
            allowed.add(TURNSTILE_HOST)
        assert elsewhere <= allowed, path


def test_a_file_can_be_read_in_one_sitting() -> None:
    for path in SOURCES:
        if path.suffix == ".js":
            assert len(path.read_text().splitlines()) <= 450, path
