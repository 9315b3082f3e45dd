"""A line that breaks is a pause and never a lost line."""

import re

import pytest
from playwright.async_api import expect

from cfmessenger.client import Client
from tests.effort import long_only
from tests.system.browser.stage import Stage, Up, direct

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

_MARK = "window.sameDocument = true"


async def test_scrolling_back_shows_everything_in_order(stage: Stage, up: Up) -> None:
    room = direct("user_12", "user_13")
    said = [f"line {n}" for n in range(1, 181)]
    async with Client(up.url) as client:
        async with await client.login("user_13") as session:
            async with session.room(room) as connection:
                for text in said:
                    await connection.send(text)
    ben = await (await stage.person("user_12")).sign_in()
    badge = ben.page.locator(f'button.contact[data-room="{room}"] .badge')
    await expect(badge).to_have_text("180")
    await ben.open(room)
    await expect(ben.lines(room)).to_have_count(100)
    await expect(ben.lines(room).last).to_be_in_viewport()
    await expect(badge).to_be_hidden()

    # The line that was looked at stays where it is while a page comes in above it.
    log = ben.room(room).get_by_role("log")
    top = ben.lines(room).first
    place = """e => e.getBoundingClientRect().top
      - e.closest('.log').getBoundingClientRect().top"""
    await top.evaluate("e => e.id = 'seen'")
    await log.evaluate("e => e.scrollTop = 0")
    await expect(ben.lines(room)).to_have_count(150)
    seen = ben.page.locator("#seen")
    assert 0 <= await seen.evaluate(place) < 120
    # And by the button, which is for the keyboard.
    await log.evaluate("e => e.scrollTop = 200")
    await ben.room(room).get_by_role("button", name="Show earlier messages").focus()
    await ben.page.keyboard.press("Enter")
    await expect(ben.lines(room)).to_have_count(180)
    await expect(ben.room(room).locator(".earlier")).to_be_hidden()
    assert await ben.texts(room) == said
    days = ben.room(room).locator(".day:visible")
    assert await days.count() in (1, 2)  # it may be midnight


@long_only
async def test_what_was_read_is_read_after_a_reload_too(stage: Stage) -> None:
    ben, ines = await stage.signed_in("user_12", "user_15")
    room = direct("user_12", "user_15")
    await ines.open(room)
    for text in ("one", "two", "three"):
        await ines.say(room, text)
    await expect(ben.task(room).locator(".badge")).to_have_text("3")
    await ben.look_at(room)
    await expect(ines.tick(room, "three")).to_have_attribute("data-status", "read")
    # Not by what the browser remembers: the server says so, at once.
    await ben.window(room).get_by_role("button", name="Close").click()
    async with ben.page.expect_response("**/api/rooms") as loading:
        await ben.page.reload()
    (known,) = [
        r for r in (await (await loading.value).json())["data"] if r["id"] == room
    ]
    assert known["unreadCount"] == 0
    await ben.connected()
    contact = ben.page.locator(f'button.contact[data-room="{room}"]')
    await expect(contact).to_be_visible()
    await expect(contact.locator(".badge")).to_be_hidden()


@long_only
async def test_two_tabs_of_one_person_stay_in_step(stage: Stage) -> None:
    first = await (await stage.person("user_14")).sign_in()
    second = await stage.tab(stage.contexts[0], "user_14")
    await second.visit()  # the browser is signed in already
    await second.connected()
    (other,) = await stage.signed_in("user_15")
    room = direct("user_14", "user_15")
    await other.open(room)
    await other.say(room, "which of you?")
    for tab in (first, second):
        await expect(tab.task(room).locator(".badge")).to_have_text("1")
    await first.page.bring_to_front()
    await first.look_at(room)
    # Read in one is read in both.
    await expect(second.task(room).locator(".badge")).to_be_hidden()
    await first.say(room, "this one")
    await second.reads(room, "this one")
    await second.page.bring_to_front()
    await second.look_at(room)
    await second.say(room, "and this one")
    await first.reads(room, "and this one")
    assert (
        await first.texts(room) == await second.texts(room) == await other.texts(room)
    )

    await first.page.get_by_label("My status").select_option("busy")
    await expect(second.page.get_by_label("My status")).to_have_value("busy")

    # A session renewed in one tab is the other's too.
    renew = """async () => {
      const page = document.querySelector("script[type=module]").src;
      const { Session } = await import(new URL("protocol.js", page).href);
      const before = localStorage.getItem("cfm.session");
      await Session.stored().refresh();
      return before !== localStorage.getItem("cfm.session");
    }"""
    assert await first.page.evaluate(renew)
    await second.say(room, "still here")
    await first.open("general")
    await second.open("general")

    await first.page.get_by_role("button", name="Sign out").click()
    for tab in (first, second):
        await expect(tab.page.get_by_text("You are signed out.")).to_be_visible()
        assert await tab.page.evaluate("localStorage.getItem('cfm.session')") is None
    contact = other.page.locator('[data-contact="user_14"]')
    await expect(contact).to_have_attribute("data-status", "offline")


async def test_the_room_dies_in_the_middle_of_a_talk(stage: Stage, up: Up) -> None:
    ines, viktor = await stage.signed_in("user_15", "user_16")
    for person in (ines, viktor):
        await person.open("general")
        await person.page.evaluate(_MARK)
    await ines.say("general", "before the crash")
    up.kill_room("general")
    await ines.write("general", "during the crash")
    await viktor.write("general", "did you notice?")
    for person in (ines, viktor):
        for text in ("before the crash", "during the crash", "did you notice?"):
            await person.reads("general", text)
        await expect(person.room("general").locator(".pending")).to_have_count(0)
        assert await person.page.evaluate("window.sameDocument")
    assert await ines.texts("general") == await viktor.texts("general")


@long_only
async def test_the_gateway_is_restarted(stage: Stage, up: Up) -> None:
    nadia, fergus = await stage.signed_in("user_17", "user_18")
    room = direct("user_17", "user_18")
    for person in (nadia, fergus):
        await person.open(room)
        await person.page.evaluate(_MARK)
    await nadia.say(room, "one")
    with up.without_gateway():
        state = nadia.page.locator("[data-connection]")
        await expect(state).to_have_attribute(
            "data-connection", re.compile("waiting|connecting")
        )
        await expect(nadia.room(room).locator(".banner")).to_contain_text("kept")
        for text in ("two", "three"):
            await nadia.write(room, text)
        await expect(nadia.room(room).locator(".pending")).to_have_count(2)
    for person in (nadia, fergus):
        await person.connected()
        for text in ("one", "two", "three"):
            await person.reads(room, text)
        assert await person.texts(room) == ["one", "two", "three"]
        assert await person.page.evaluate("window.sameDocument")
    await expect(nadia.room(room).locator(".banner")).to_be_hidden()
    await expect(nadia.tick(room, "three")).to_have_attribute(
        "data-status", re.compile("delivered|read")
    )


async def test_what_is_typed_offline_arrives_once(stage: Stage) -> None:
    lucia, kwame = await stage.signed_in("user_19", "user_20")
    room = direct("user_19", "user_20")
    for person in (lucia, kwame):
        await person.open(room)
    await lucia.say(room, "entering a tunnel")
    context = stage.contexts[0]
    await context.set_offline(True)
    state = lucia.page.locator("[data-connection]")
    await expect(state).to_have_attribute("data-connection", "offline")
    await lucia.write(room, "dark here")
    await lucia.write(room, "still dark")
    await expect(lucia.room(room).locator(".pending")).to_have_count(2)
    await lucia.room(room).get_by_role("button", name="Nudge").click()
    await expect(lucia.room(room).locator(".notice")).to_contain_text("connection")
    await kwame.say(room, "hello?")
    await context.set_offline(False)
    wanted = ["entering a tunnel", "hello?", "dark here", "still dark"]
    await expect(lucia.room(room).locator(".pending")).to_have_count(0)
    for person in (lucia, kwame):
        await person.reads(room, "still dark")
        assert await person.texts(room) == wanted

    # It survives the page, too, and so does what was not sent yet.
    await context.set_offline(True)
    await lucia.write(room, "last words")
    await lucia.box(room).fill("half a sent")
    await lucia.page.close()
    await context.set_offline(False)
    again = await stage.tab(context, "user_19")
    await again.visit()
    await kwame.reads(room, "last words")
    await again.look_at(room)
    await again.reads(room, "last words")
    await expect(again.box(room)).to_have_value("half a sent")
    assert await again.texts(room) == await kwame.texts(room) == [*wanted, "last words"]
