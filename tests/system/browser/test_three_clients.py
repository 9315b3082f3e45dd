"""One messenger, three clients: the page, `cfmessenger chat`, the original's code."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from playwright.async_api import expect

from tests.cfmessenger.cli.test_chat import Chat
from tests.gateway.live.test_original_client import unwrapped
from tests.gateway.node import Socket, dial
from tests.system.browser.stage import Stage, Up

pytestmark = [pytest.mark.browser, pytest.mark.cluster]

WEB, CHAT, ORIGINAL = "user_10", "user_12", "user_13"


@asynccontextmanager
async def original(url: str, user_id: str) -> AsyncIterator[tuple[Socket, Socket]]:
    """Its sockets for presence and the room, as its own code opens them."""
    headers = {"Origin": url, "Content-Type": "text/plain;charset=UTF-8"}
    body = json.dumps({"userId": user_id, "token": "XXXX.DUMMY.TOKEN.XXXX"})
    async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
        session = unwrapped(await http.post("/api/auth/login", content=body))
    session_id = session["sessionId"]
    query = f"sessionId={session_id}&userId={user_id}&displayName=x"
    opened = []
    for path in ("presence", "room/general"):
        address = f"{url.replace('http', 'ws', 1)}/api/ws/{path}?{query}"
        connection = await dial(address, additional_headers={"Origin": url})
        opened.append(Socket(connection, user_id, session_id))
    try:
        yield opened[0], opened[1]
    finally:
        for socket in opened:
            await socket.close()


async def test_each_sees_what_the_others_do(stage: Stage, up: Up) -> None:
    web = await (await stage.person(WEB)).sign_in()
    await web.open("general")
    chat = await Chat.start(up.url, "--user", CHAT, "--room", "general")
    await chat.shows("here: ")

    async def shown_in_page(user_id: str, name: str, status: str) -> None:
        contact = web.page.locator(f'[data-contact="{user_id}"]')
        await expect(contact).to_contain_text(name)
        await expect(contact).to_have_attribute("data-status", status)
        here = web.room("general").locator(".crowd li", has_text=name)
        await expect(here.get_by_role("img", name=status)).to_have_count(1)

    async with original(up.url, ORIGINAL) as (presence, room):

        async def shown_in_original(user_id: str, name: str, status: str) -> None:
            seen = {"displayName": name, "status": status}
            await presence.wait("presence_update", userId=user_id, **seen)
            await room.wait(
                "participants",
                lambda frame: any(
                    seen.items() <= who.items() and who["id"] == user_id
                    for who in frame["participants"]
                ),
            )

        await web.say("general", "from a page")
        await chat.shows("from a page")
        await room.wait("chat", content="from a page")
        chat.type("from a terminal\n")
        await web.reads("general", "from a terminal")
        await room.wait("chat", content="from a terminal")
        await room.raw('{"type":"chat","id":"temp_1","content":"from 2005"}')
        await web.reads("general", "from 2005")
        await chat.shows("from 2005")

        await web.rename("Paged")
        await shown_in_original(WEB, "Paged", "online")
        await chat.shows("is now Paged$")
        await web.page.get_by_label("My status").select_option("away")
        await shown_in_original(WEB, "Paged", "away")
        await chat.shows("Paged is now away$")

        chat.type("/name Typed\n")
        await shown_in_original(CHAT, "Typed", "online")
        chat.type("/status busy\n")
        await shown_in_original(CHAT, "Typed", "busy")
        await shown_in_page(CHAT, "Typed", "busy")

        update = {"type": "presence_update", "userId": ORIGINAL, "displayName": "Old"}
        await presence.raw(json.dumps(update | {"status": "away"}))
        await chat.shows(r"is now (Old|away)$")
        await shown_in_page(ORIGINAL, "Old", "away")
    chat.type("/quit\n")
    code, _, errors = await chat.end()
    assert (code, errors) == (0, "")
