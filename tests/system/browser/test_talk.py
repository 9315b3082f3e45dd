"""Two and three people talk: what one does, the others see."""

import re

import pytest
from playwright.async_api import expect

from tests.effort import long_only
from tests.system.browser.stage import Person, Stage, direct

pytestmark = [pytest.mark.browser, pytest.mark.cluster]


async def test_signing_in_is_seen_with_its_status(stage: Stage) -> None:
    watcher, late = await stage.person("user_1"), await stage.person("user_2")
    await watcher.sign_in()
    contact = watcher.page.locator('[data-contact="user_2"]')
    await expect(contact).to_have_attribute("data-status", "offline")

    await late.visit()
    search = late.page.get_by_label("Search accounts")
    await search.fill("tom")
    await expect(late.page.locator(".account:visible")).to_have_count(1)
    await late.page.locator(".account:visible").click()
    await late.page.locator("#sign-in-status").select_option("busy")
    await search.press("Enter")
    await late.connected()
    await expect(contact).to_have_attribute("data-status", "busy")
    await expect(watcher.page.locator(".toast")).to_contain_text("is now online")

    await late.page.get_by_label("My status").select_option("away")
    await expect(contact).to_have_attribute("data-status", "away")
    await late.rename("Tom, really")
    await expect(contact).to_contain_text("Tom, really")
    # A person keeps the name over a reload, and others go on seeing it.
    await late.page.reload()
    await late.connected()
    await expect(late.page.locator("button.myname")).to_have_text("Tom, really")
    await expect(contact).to_contain_text("Tom, really")


async def test_a_message_to_somebody_who_has_not_opened_the_room(stage: Stage) -> None:
    maya, priya = await stage.signed_in("user_1", "user_3")
    room = direct("user_1", "user_3")
    await maya.open(room)
    await maya.say(room, "are you there?")

    # Its window comes by itself, not in the way; that it came is told at once.
    await expect(priya.task(room).locator(".badge")).to_have_text("1")
    assert not await priya.window(room).is_visible()
    await expect(priya.page).to_have_title("(1) CF Messenger")
    await expect(maya.tick(room, "there?")).to_have_attribute(
        "data-status", "delivered"
    )

    await priya.look_at(room)
    await expect(maya.tick(room, "there?")).to_have_attribute("data-status", "read")
    await expect(priya.page).to_have_title("CF Messenger")
    await priya.say(room, "I am.")
    await maya.reads(room, "I am.")
    await expect(maya.page.locator("#polite")).to_contain_text("Priya says: I am.")
    await expect(priya.tick(room, "I am.")).to_have_attribute("data-status", "read")


async def test_typing_appears_and_vanishes(stage: Stage) -> None:
    maya, jonas = await stage.signed_in("user_1", "user_4")
    room = direct("user_1", "user_4")
    await maya.open(room)
    await jonas.open(room)
    line = maya.room(room).locator(".typing")
    await jonas.box(room).press_sequentially("hm")
    await expect(line).to_have_text("jonas.exe is typing…")
    # Nobody types on: the server says so.
    await expect(line).to_have_text("")
    await jonas.box(room).press_sequentially("m")
    await expect(line).to_have_text("jonas.exe is typing…")
    await jonas.box(room).press("Enter")
    await maya.reads(room, "hmm")
    await expect(line).to_have_text("")


async def _shakes(person: Person, room: str, times: int) -> None:
    await expect(person.window(room)).to_have_attribute("data-nudges", str(times))


async def test_a_nudge_shakes_and_the_fourth_is_refused(stage: Stage) -> None:
    hana = await (await stage.person("user_7")).sign_in()
    calm = await stage.person("user_8", reduced_motion="reduce")
    await calm.sign_in()
    room = direct("user_7", "user_8")
    await hana.open(room)
    nudge = hana.room(room).get_by_role("button", name="Nudge")
    await hana.say(room, "wake up")
    await expect(calm.task(room)).to_be_visible()
    await expect(calm.room(room)).to_have_attribute("data-state", "open")
    for times in (1, 2, 3):
        await nudge.click()
        await _shakes(hana, room, times)
        await _shakes(calm, room, times)
        # A nudge brings the window up.
        await expect(calm.window(room)).to_be_visible()
    moving = "element => element.getAnimations().length"
    assert await hana.window(room).evaluate(moving) > 0
    assert await calm.window(room).evaluate(moving) == 0

    await nudge.click()
    warning = hana.room(room).locator(".notice.warning")
    await expect(warning).to_have_text(
        re.compile(r"You may not nudge that often\. Wait \d+ seconds?\.")
    )
    await expect(hana.page.locator("#polite")).to_contain_text("not nudge that often")
    await hana.say(room, "sorry")
    await calm.reads(room, "sorry")
    await _shakes(calm, room, 3)


@long_only
async def test_a_wink_starts_everywhere_at_once(stage: Stage) -> None:
    people = await stage.signed_in("user_5", "user_6", "user_9")
    for person in people:
        await person.open("music")
    for person in people:
        await expect(person.room("music").locator(".crowd li")).to_have_count(3)
    # A machine that is too busy holds up one tab by chance, but not each time.
    apart = [await _wink(people, name) for name in ("Disco", "Rainbow", "Giggle")]
    assert min(apart) < 100, apart
    assert sorted(apart)[1] < 250, apart


async def _wink(people: list[Person], name: str) -> float:
    """Sends a wink; how far apart the screens began, in milliseconds."""
    room = people[0].room("music")
    await room.get_by_role("button", name="Winks").click()
    await expect(room.locator(".menu.winks button")).to_have_count(8)
    await room.get_by_role("button", name=name).click()
    started, keys = [], set()
    for person in people:
        canvas = person.page.locator("canvas.wink")
        started.append(float(await canvas.get_attribute("data-started-at") or "nan"))
        keys.add(await canvas.get_attribute("data-playback-key"))
    assert len(keys) == 1
    for person in people:
        await expect(person.page.locator("canvas.wink")).to_have_count(0)
        await person.reads("music", f"sent a wink: {name}")
    return max(started) - min(started)


async def test_what_is_typed_is_never_markup(stage: Stage) -> None:
    evil = '<img src=x onerror="window.pwned=1">'
    attacker = await (await stage.person("user_10")).sign_in()
    victim = await (await stage.person("user_11")).sign_in()
    await attacker.rename(evil)
    await expect(victim.page.locator('[data-contact="user_10"]')).to_contain_text(evil)
    for person in (attacker, victim):
        await person.open("general")
    said = f"{evil}<script>pwned=2</script> javascript:alert(1) &amp; https://a.example/?q=(1)."
    await attacker.say("general", said)
    await victim.reads("general", said)
    await expect(victim.room("general").locator(".says").last).to_have_text(
        f"{evil} says:"
    )
    line = victim.lines("general", said)
    assert await line.locator("img, script").count() == 0
    link = line.locator("a")
    await expect(link).to_have_count(1)
    assert await link.get_attribute("href") == "https://a.example/?q=(1)"
    assert await link.get_attribute("rel") == "noopener noreferrer"
    assert await link.get_attribute("target") == "_blank"
    # Right-to-left letters stay in their own line.
    await attacker.say("general", "שלום")
    text = victim.lines("general", "שלום").locator(".text")
    assert await text.evaluate("e => getComputedStyle(e).direction") == "rtl"
    for person in (attacker, victim):
        assert await person.page.evaluate("window.pwned") is None


@long_only
async def test_three_bots_are_talked_to(stage: Stage) -> None:
    (maya,) = await stage.signed_in("user_1")
    said = []
    for bot in ("bot_dialup", "bot_mixtape", "bot_penpal"):
        contact = maya.page.locator(f'[data-contact="{bot}"]')
        await expect(contact).to_have_attribute("data-status", "online")
        room = direct(bot, "user_1")
        await maya.open(room)
        await maya.write(room, "hello! what do you know about modems?")
        await expect(maya.room(room).locator(".typing")).to_contain_text("is typing")
        await expect(maya.lines(room)).to_have_count(2)
        said.append((await maya.texts(room))[-1])
        await maya.window(room).get_by_role("button", name="Close").click()
    assert len(set(said)) == 3
    # In a public room it is who is mentioned.
    await maya.open("general")
    await maya.say("general", "@Dial-Up Doris are you here as well?")
    answer = maya.lines("general").filter(has_text="Dial-Up Doris").last
    await expect(answer).not_to_contain_text("are you here")
