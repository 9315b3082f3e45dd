"""What the browser tests stand on: one `cfmessenger up`, and people at their screens.

A `Person` is one page; what it waits for is always something that can be seen in the
page, with a deadline that suits a slow machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder

# The first has no window to draw for, and takes half the time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
PATIENCE_MS = 30_000
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}

# What a browser says by itself when a line is cut, which some tests do on purpose.
_EXPECTED = re.compile(r"ERR_|WebSocket connection to|Failed to load resource")


class Up:
    """A whole messenger in a folder of its own, with rates that people do not meet."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: a Unix socket's path must stay under 104 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cfm-web-"))
        self.data = self.folder / "data"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        self.environment = {
            **inherited,
            "CFM_DATA_DIR": str(self.data),
            "CFM_LOGIN_RATE": "0",
            "CFM_NEW_ROOM_RATE": "0",
            "CFM_CHAT_RATE": "0",
            "CFM_WARM_WORKERS": "2",
            "CFM_BOTS_ACTIVE": "9",  # all, so that the hour does not matter
            "COLUMNS": "200",
        }
        with (self.folder / "stderr").open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "cfmessenger", "up", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.environment,
            )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line.startswith("CF Messenger is ready at "):
            self.end()
            raise RuntimeError((self.folder / "stderr").read_text()[-2000:])
        self.url = line.split()[-1]

    @contextmanager
    def without_gateway(self) -> Iterator[None]:
        """It is killed, and its supervisor starts it again afterwards."""
        (found,) = [
            row for row in self._family() if "cfmessenger gateway" in _said(row)
        ]
        self.popen.send_signal(signal.SIGSTOP)
        try:
            process.send(found, signal.SIGKILL)
            yield
        finally:
            self.popen.send_signal(signal.SIGCONT)

    def kill_room(self, room_id: str) -> None:
        """The process that the room lives in; the next event starts another."""
        listed = subprocess.run(
            [sys.executable, "-m", "cfmessenger", "rooms", "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rooms = {each["name"]: each for each in map(json.loads, listed.splitlines())}
        found = rooms.get(f"room:{room_id}")
        assert found is not None, listed
        (room,) = [row for row in self._family() if row.pid == found["pid"]]
        process.send(room, signal.SIGKILL)
        assert process.wait_gone({room}, 10.0) == []

    def end(self) -> None:
        family = set(self._family())
        self.popen.terminate()
        try:
            self.popen.wait(30)
        finally:
            for row in family:
                process.send(row, signal.SIGKILL)
            self.popen.kill()
            self.popen.wait(10)
            assert self.popen.stdout is not None
            self.popen.stdout.close()
            RuntimeFolder(self.data).remove()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _family(self) -> list[process.Entry]:
        return process.descendants(self.popen.pid)


def _said(row: process.Entry) -> str:
    try:
        raw = Path(f"/proc/{row.pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace")


class Person:
    """Somebody at a page of the client."""

    def __init__(self, page: Page, url: str, user_id: str) -> None:
        self.page = page
        self.url = url
        self.user_id = user_id
        self.complaints: list[str] = []
        page.on(
            "pageerror", lambda fault: self.complaints.append(f"{fault} {fault.stack}")
        )
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and not _EXPECTED.search(message.text):
            at = message.location
            where = f"{at['url']}:{at['lineNumber'] + 1}"
            self.complaints.append(f"{message.type}: {message.text} ({where})")

    async def visit(self) -> None:
        await self.page.goto(self.url)

    async def sign_in(self, status: str = "online") -> Person:
        await self.visit()
        await self.page.locator("form[data-ready]").wait_for()
        await self.page.get_by_label("Search accounts").fill(self.user_id)
        await self.page.get_by_label("Search accounts").fill("")
        await self.page.locator(f'input[value="{self.user_id}"]').check(force=True)
        await self.page.locator("#sign-in-status").select_option(status)
        await self.page.get_by_role("button", name="Sign in", exact=True).click()
        await self.connected()
        return self

    async def connected(self) -> None:
        await expect(self.page.locator("[data-connection]")).to_have_attribute(
            "data-connection", "open"
        )

    async def rename(self, display_name: str) -> None:
        await self.page.locator("button.myname").click()
        box = self.page.get_by_role("textbox", name="My display name")
        await box.fill(display_name)
        await box.press("Enter")
        await expect(box).to_be_hidden()
        await expect(self.page.locator("button.myname")).to_be_focused()

    async def open(self, room_id: str) -> None:
        """Opens a room from the contact list and waits until it is connected."""
        await self.page.locator(f'button.contact[data-room="{room_id}"]').click()
        await expect(self.room(room_id)).to_have_attribute("data-state", "open")

    async def look_at(self, room_id: str) -> None:
        """By its button in the bar."""
        if not await self.window(room_id).is_visible():
            await self.task(room_id).click()
        await self.box(room_id).focus()

    async def write(self, room_id: str, text: str) -> None:
        await self.box(room_id).fill(text)
        await self.box(room_id).press("Enter")

    async def say(self, room_id: str, text: str) -> None:
        """Writes, and waits for the echo."""
        await self.write(room_id, text)
        await expect(self.lines(room_id, text)).to_have_count(1)
        await expect(self.lines(room_id, text)).to_have_attribute(
            "data-seq", re.compile(r"\d+")
        )

    async def reads(self, room_id: str, text: str) -> None:
        await expect(self.lines(room_id, text)).to_have_count(1)

    def window(self, room_id: str) -> Locator:
        return self.page.locator(f'[data-window="{room_id}"]')

    def task(self, room_id: str) -> Locator:
        return self.page.locator(f'[data-task="{room_id}"]')

    def room(self, room_id: str) -> Locator:
        return self.page.locator(f'.conversation[data-room="{room_id}"]')

    def box(self, room_id: str) -> Locator:
        return self.room(room_id).locator("textarea")

    def lines(self, room_id: str, text: str | None = None) -> Locator:
        lines = self.room(room_id).locator(".message")
        return lines if text is None else lines.filter(has_text=text)

    def tick(self, room_id: str, text: str) -> Locator:
        return self.lines(room_id, text).locator(".tick")

    async def texts(self, room_id: str) -> list[str]:
        found = self.room(room_id).locator(".message .text")
        return [" ".join(text.split()) for text in await found.all_text_contents()]


class Stage:
    """Makes people, each in a browser context of their own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self.contexts: list[BrowserContext] = []
        self.people: list[Person] = []

    async def person(self, user_id: str, **context: Any) -> Person:
        """Somebody in a new browser, not signed in yet."""
        options = {"viewport": DESKTOP, "locale": "en-GB", **context}
        made = await self._browser.new_context(**options)
        made.set_default_timeout(PATIENCE_MS)
        self.contexts.append(made)
        return await self.tab(made, user_id)

    async def tab(self, context: BrowserContext, user_id: str) -> Person:
        """One more page in the same browser."""
        person = Person(await context.new_page(), self._url, user_id)
        self.people.append(person)
        return person

    async def signed_in(self, *user_ids: str) -> list[Person]:
        return [await (await self.person(each)).sign_in() for each in user_ids]

    async def close(self) -> None:
        for context in self.contexts:
            await context.close()
        told = {each.user_id: each.complaints for each in self.people}
        # This module's asserts are not pytest's: it says by itself what there was.
        assert not any(told.values()), f"The pages complain: {told}"


def direct(one: str, other: str) -> str:
    """The id of two people's room."""
    return f"dm_{'__'.join(sorted((one, other)))}"
