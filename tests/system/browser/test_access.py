"""For everybody: axe-core finds nothing, and a keyboard is enough."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route, expect

from gateway.web.pages import TURNSTILE_HOST, policy
from tests.effort import long_only
from tests.system.browser.stage import PHONE, Person, Stage, direct

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

AXE = Path(__file__).parents[2] / "vendor" / "axe-core" / "axe.min.js"


async def violations(person: Person) -> list[str]:
    # Evaluated, not added as a script: the page's policy would refuse that, rightly.
    await person.page.evaluate(AXE.read_text() + "\n;null")
    found: dict[str, Any] = await person.page.evaluate("axe.run()")
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@long_only
async def test_axe_finds_nothing(stage: Stage) -> None:
    liam = await stage.person("user_8")
    await liam.visit()
    await liam.page.locator("form[data-ready]").wait_for()
    assert await violations(liam) == []
    await liam.sign_in()
    zofia = await stage.person("user_9", viewport=PHONE, has_touch=True)
    await zofia.sign_in("away")
    room = direct("user_8", "user_9")
    await liam.open(room)
    await liam.say(room, "hello <3 https://a.example/")
    await expect(zofia.task(room)).to_be_visible()
    await zofia.task(room).click()
    await zofia.say(room, "hi :)")
    await zofia.room(room).get_by_role("button", name="Nudge").click()
    await expect(liam.lines(room, "nudge")).to_be_visible()
    await liam.open("general")
    await liam.room("general").get_by_role("button", name="Emoticons").click()
    assert await violations(liam) == []
    assert await violations(zofia) == []
    # Each window is a tab of its own on a phone: one at a time.
    await expect(zofia.page.get_by_role("tab")).to_have_count(2)
    await zofia.page.get_by_role("tab", name="Contacts").click()
    await expect(zofia.window(room)).not_to_be_visible()
    assert await violations(zofia) == []
    await stage.contexts[0].set_offline(True)
    await expect(liam.page.locator(".banner:visible")).not_to_have_count(0)
    assert await violations(liam) == []


async def test_the_proof_of_a_person(stage: Stage) -> None:
    """Cloudflare's widget with a real key, a stand-in that says so with a test key."""
    sam = await stage.person("user_14")
    key = "3x00000000000000000000FF"

    async def config(route: Route) -> None:
        await route.fulfill(json={"success": True, "data": {"TURNSTILE_SITE_KEY": key}})

    await sam.page.route("**/api/config", config)
    await sam.visit()
    await sam.page.get_by_text("Sam the Man").click()
    button = sam.page.get_by_role("button", name="Sign in", exact=True)
    await expect(sam.page.get_by_text("Nobody is being checked.")).to_be_visible()
    await expect(button).to_be_disabled()
    await sam.page.get_by_label("I am a person").check()
    await expect(button).to_be_enabled()

    # The page as it is with a real key, and a script in the place of Cloudflare's.
    key = "0x4AAAAAAAreal"
    asked: list[str] = []

    async def page(route: Route) -> None:
        answer = await route.fetch()
        headers = answer.headers | {"content-security-policy": policy(key)}
        await route.fulfill(response=answer, headers=headers)

    async def script(route: Route) -> None:
        asked.append(route.request.url)
        body = "turnstile={render:(_,o)=>setTimeout(o.callback,9,'solved'),reset(){}}"
        await route.fulfill(body=body, content_type="text/javascript")

    await sam.page.route(sam.url + "/", page)
    await sam.page.route(f"{TURNSTILE_HOST}/**", script)
    await sam.visit()
    await sam.page.get_by_text("Sam the Man").click()
    async with sam.page.expect_response("**/api/auth/login") as login:
        await button.click()
    answer = await login.value
    assert answer.status == 200
    assert answer.request.post_data_json["token"] == "solved"
    assert asked == [f"{TURNSTILE_HOST}/turnstile/v0/api.js?render=explicit"]


async def test_a_keyboard_is_enough(stage: Stage) -> None:
    chloe, diego = await stage.person("user_5"), await stage.person("user_6")
    await diego.sign_in()
    page, keys = chloe.page, chloe.page.keyboard
    await chloe.visit()
    await page.locator("form[data-ready]").wait_for()
    await page.get_by_label("Search accounts").focus()
    await keys.type("xX_")
    await keys.press("Tab")
    await keys.press("Space")
    await keys.press("Enter")
    await chloe.connected()

    room = direct("user_5", "user_6")
    await page.get_by_label("Find a contact").fill("diego")
    await keys.press("Tab")
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(chloe.box(room)).to_be_focused()
    await keys.type("typed with")
    await keys.press("Shift+Enter")
    await keys.type("ten fingers")
    await keys.press("Enter")
    await expect(chloe.box(room)).to_be_focused()
    await diego.look_at(room)
    await diego.reads(room, "typed with")
    # The focus is kept while messages come in, and Escape gives it back.
    await chloe.room(room).get_by_role("button", name="Emoticons").focus()
    await keys.press("Enter")
    await keys.press("ArrowRight")
    await diego.say(room, "do not disturb me")
    await chloe.reads(room, "do not disturb me")
    grin = chloe.room(room).get_by_role("button", name="big grin")
    await expect(grin).to_be_focused()
    await keys.press("Escape")
    await expect(
        chloe.room(room).get_by_role("button", name="Emoticons")
    ).to_be_focused()
    await expect(chloe.window(room)).to_be_visible()

    left = "e => e.offsetLeft"
    before = await chloe.window(room).evaluate(left)
    await keys.press("Control+Alt+ArrowRight")
    assert await chloe.window(room).evaluate(left) == before + 24
    await keys.press("F6")
    await expect(page.get_by_label("Find a contact")).to_be_focused()
    await keys.press("F6")
    await expect(chloe.box(room)).to_be_focused()
    await keys.press("Escape")
    await expect(chloe.window(room)).to_have_count(0)


async def test_twice_the_size_hides_nothing(stage: Stage) -> None:
    # 200 % zoom of 1280 x 800: half the CSS pixels.
    half = {"width": 640, "height": 400}
    greta = await stage.person("user_11", viewport=half, device_scale_factor=2)
    await greta.sign_in()
    await greta.open("general")
    for wanted in (greta.box("general"), greta.page.locator(".connection .words")):
        await expect(wanted).to_be_in_viewport(ratio=1)
    send = greta.room("general").get_by_role("button", name="Send", exact=True)
    await expect(send).to_be_in_viewport(ratio=1)
    wide = "document.documentElement.scrollWidth <= innerWidth"
    assert await greta.page.evaluate(wide)
