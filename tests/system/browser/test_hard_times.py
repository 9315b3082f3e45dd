"""Browsers that refuse, servers that refuse: a sentence, and whatever still works."""

import json

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.system.browser.stage import Stage
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
