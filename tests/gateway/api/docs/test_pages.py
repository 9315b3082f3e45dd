"""The page at /docs: ours alone, under a strict policy, and it shows everything."""

import asyncio
import re
import shutil
import tempfile
from importlib.resources import files

import pytest

from gateway.api.docs.pages import POLICY
from gateway.api.operations import OPERATIONS
from tests.gateway.edge import gateway

PARTS = {
    "/docs": "text/html; charset=utf-8",
    "/docs/page.css": "text/css; charset=utf-8",
    "/docs/page.mjs": "text/javascript; charset=utf-8",
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize("path", PARTS)
async def test_a_part_is_served_under_the_policy_and_kept(
    valkey_url: str, path: str
) -> None:
    async with gateway(valkey_url) as running, running.client() as http:
        first = await http.get(path)
        assert first.status_code == 200
        assert first.headers["content-type"] == PARTS[path]
        assert first.headers.get_list("content-security-policy") == [POLICY]
        assert first.headers.get_list("cache-control") == ["no-cache"]
        assert first.headers["x-content-type-options"] == "nosniff"
        # Scripts and styles are under their page's.
        assert ("referrer-policy" in first.headers) == (path == "/docs")
        assert first.headers["x-frame-options"] == "DENY"
        known = {"If-None-Match": first.headers["etag"]}
        again = await http.get(path, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers.get_list("content-security-policy") == [POLICY]
        assert (await http.post(path)).status_code == 405


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in POLICY and "http" not in POLICY and "*" not in POLICY
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"


def test_the_page_needs_nothing_that_the_policy_forbids() -> None:
    folder = files("gateway.api.docs")
    html, css, script = (
        (folder / f"page.{kind}").read_text() for kind in ("html", "css", "mjs")
    )
    assert not re.search(r"<script(?![^>]* src=\"/docs/)", html)
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)
    sources = re.findall(r"(?:src|href)=\"([^\"#]+)\"", html)
    assert all(each.startswith(("/docs", "/api/", "data:,")) for each in sources)
    assert not re.search(r"@import|url\(|https?:", css)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval", script)
    assert not re.search(r"https?://|\bimport\b", script)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_a_browser_shows_every_endpoint_and_message(valkey_url: str) -> None:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        async with gateway(valkey_url) as running:
            process = await asyncio.create_subprocess_exec(
                *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
                *("--dump-dom", "--virtual-time-budget=10000"),
                *("--enable-logging=stderr", f"--user-data-dir={profile}"),
                f"http://127.0.0.1:{running.port}/docs",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                shown, said = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    dom = shown.decode()
    assert b"CONSOLE" not in said, said.decode()
    for operation in OPERATIONS:
        assert f'<article id="{operation.name}">' in dom, operation.name
    for message in ("room-client.chat", "room-server.history", "presence-server.pong"):
        assert f'<article id="{message}">' in dom, message
    assert "4508" in dom and "curl" in dom
