"""One messenger and one browser for all tests here; without a browser they skip."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.system.browser.stage import CHROMIUM, PATIENCE_MS, Stage, Up

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="package")
def up() -> Iterator[Up]:
    started = Up()
    try:
        yield started
    finally:
        started.end()


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (apt-get install chromium)")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield opened
        await opened.close()


@pytest.fixture
async def stage(browser: Browser, up: Up) -> AsyncIterator[Stage]:
    made = Stage(browser, up.url)
    yield made
    await made.close()
