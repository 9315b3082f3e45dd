"""Browsers that refuse, servers that refuse: a sentence, and whatever still works."""

import asyncio
import json

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.system.browser.stage import Stage, Up
from tests.system.browser.test_access import violations

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

# Site data blocked, as Chromium does it.
_NO_STORAGE = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, {
    get() { throw new DOMException("Access is denied.", "SecurityError"); },
  });
}
"""
# Chromium on Android: there they come from a service worker alone.
_NO_NOTIFICATIONS = """
window.Notification = class {
  static permission = "granted";
  static requestPermission = async () => "granted";
  constructor() { throw new TypeError("Illegal constructor."); }
};
"""


async def test_a_browser_that_keeps_nothing_and_one_that_cannot_notify(
    stage: Stage,
) -> None:
    leo, otto = await stage.person("user_2"), await stage.person("user_12")
    await leo.page.add_init_script(_NO_STORAGE)
    await leo.visit()
    await expect(leo.page.get_by_text("keeps nothing for this site")).to_be_visible()
    await leo.page.locator("form[data-ready]").wait_for()
    assert await violations(leo) == []
    await leo.sign_in()
    await otto.page.add_init_script(_NO_NOTIFICATIONS)
    await otto.sign_in()
    bell = otto.page.get_by_role("button", name="Notifications")
    await bell.click()
    await expect(bell).to_have_attribute("aria-pressed", "false")
    for person in (leo, otto):
        await person.open("general")
    await leo.say("general", "no trace of me")
    await otto.reads("general", "no trace of me")
    await leo.page.get_by_role("button", name="Sound").click()
    await leo.page.get_by_role("button", name="Sign out").click()
    await expect(leo.page.get_by_text("You are signed out.")).to_be_visible()


async def test_the_reference_is_read_where_nothing_is_kept(
    stage: Stage, up: Up
) -> None:
    reader = await stage.person("user_20")
    page = reader.page
    await page.add_init_script(_NO_STORAGE)
    await page.goto(f"{up.url}/docs")
    cards = page.locator("article:visible")
    await expect(cards.first).to_be_visible()
    everything = await cards.count()
    theme = page.get_by_role("button", name="Dark")
    await theme.click()
    await expect(theme).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("/")
    await page.keyboard.type("displayName")
    await expect(page.locator("#found")).to_have_text(f"{await cards.count()} found")
    assert 1 < await cards.count() < everything
    links = page.locator("nav li:visible a")
    await expect(links).to_have_count(await cards.count())
    await page.keyboard.press("Enter")
    await expect(links.first).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(links.nth(1)).to_be_focused()


async def test_a_browser_that_draws_nothing_tells_of_a_wink(stage: Stage) -> None:
    rosa = await stage.person("user_17")
    await rosa.page.add_init_script(
        "HTMLCanvasElement.prototype.getContext = () => null"
    )
    await rosa.sign_in()
    await rosa.open("music")
    await rosa.room("music").get_by_role("button", name="Winks").click()
    await rosa.room("music").get_by_role("button", name="Snowman").click()
    await rosa.reads("music", "sent a wink: Snowman")
    await expect(rosa.page.locator("#polite")).to_contain_text("Wink: Snowman")


async def test_a_page_whose_session_ends_while_it_loads_is_quiet(stage: Stage) -> None:
    (vera,) = await stage.signed_in("user_18")
    page = vera.page
    await vera.open("general")
    over = asyncio.Event()

    async def hold(route: Route) -> None:
        await over.wait()
        await route.continue_()

    async def refuse(route: Route) -> None:
        error = {"code": "AUTH_EXPIRED", "message": "It is over."}
        await route.fulfill(status=401, json={"success": False, "error": error})

    await page.route("**/api/users", hold)
    await page.route("**/api/auth/ticket", refuse)
    await page.reload()
    await expect(page.get_by_text("Your session has ended.")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    async with page.expect_response("**/api/users"):
        over.set()
    # Behind all that the answer sets off.
    await page.evaluate("fetch('/api/config').then(() => undefined)")
    assert not any("/api/auth/ticket" in url for url in asked)
    await expect(page.locator("#polite")).not_to_contain_text("This conversation")


async def test_a_server_that_will_not_have_this_page_says_why(stage: Stage) -> None:
    (amara,) = await stage.signed_in("user_13")
    page = amara.page
    await amara.open("general")
    why = "This server is not told that it is reached as https://chat.example."

    async def refuse(route: Route) -> None:
        error = {"code": "ORIGIN_NOT_ALLOWED", "message": why}
        await route.fulfill(status=403, json={"success": False, "error": error})

    await page.route("**/api/auth/ticket", refuse)
    await page.reload()
    await expect(page.locator(".refusal")).to_have_text(why)
    await expect(page.locator("#assertive")).to_contain_text(why)
    await expect(amara.room("general").locator(".banner")).to_contain_text(why)
    assert await violations(amara) == []
    await page.unroute("**/api/auth/ticket")
    await amara.connected()
    await expect(page.locator(".refusal")).to_be_hidden()


async def test_a_line_that_the_server_will_not_take(stage: Stage) -> None:
    noor = await stage.person("user_16")
    broken = {"bad words": "VALIDATION_ERROR", "bad luck": "INTERNAL_ERROR"}

    async def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def judge(data: str | bytes) -> None:
            frame = json.loads(data)
            code = broken.get(frame.get("content", ""))
            if code is None:
                return server.send(data)
            said = {"code": code, "message": "It is not to be.", "content": ""}
            again = {"retryable": False, "id": frame["id"]}
            return socket.send(json.dumps({"type": "error", **said, **again}))

        socket.on_message(judge)

    await noor.page.route_web_socket("**/api/ws/room/*", between)
    await noor.sign_in()
    await noor.open("music")
    for text in ("one", "bad words", "bad luck", "two"):
        await noor.write("music", text)
    await noor.reads("music", "two")
    for text in broken:
        line = noor.lines("music", text)
        await expect(line).to_contain_text("Not sent: It is not to be.")
    assert await violations(noor) == []

    # They are still there, and may still be decided on, after a reload.
    await noor.page.reload()
    await noor.connected()
    await noor.look_at("music")
    edited, again = (noor.lines("music", text) for text in broken)
    await expect(edited.get_by_role("button", name="Try again")).to_have_count(0)
    broken.pop("bad luck")
    await again.get_by_role("button", name="Try again").click()
    await noor.reads("music", "bad luck")
    await edited.get_by_role("button", name="Edit").click()
    await expect(noor.box("music")).to_have_value("bad words")
    await expect(edited).to_have_count(0)
    await noor.box("music").fill("good words")
    await noor.box("music").press("Enter")
    await noor.reads("music", "good words")
    texts = await noor.texts("music")
    assert texts[-4:] == ["one", "two", "bad luck", "good words"]
    await expect(noor.room("music").locator(".pending")).to_have_count(0)
