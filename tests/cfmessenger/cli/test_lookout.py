"""`/watch` of `cfmessenger chat`: people wherever they are."""

from ..client.scripted_server import ScriptedServer
from ..client.test_state import PARTICIPANTS, history
from .test_chat import Chat, server

__all__ = ["server"]

CROWD = {"type": "presence_full_sync", "online": 4000, "scope": "watched"}


async def test_who_is_watched_is_told_of_when_they_come_and_change(
    server: ScriptedServer,
) -> None:
    chat = await Chat.start(server.url, "--stay")
    (await server.accept()).send(history(1), PARTICIPANTS)
    chat.type("/watch\n")
    await chat.shows("nobody is watched")
    chat.type("/watch user_2 user_3\n")
    socket = await server.accept()
    assert socket.path == "/api/ws/presence"
    watch = {"type": "watch", "userIds": ["user_2", "user_3"]}
    assert await socket.recv() == watch
    one, two, three = (
        {"id": f"user_{n}", "displayName": name, "status": status}
        for n, name, status in (
            (1, "One", "online"),
            (2, "Two", "busy"),
            (3, "Three", "offline"),
        )
    )
    socket.send(CROWD | {"participants": [one]})
    await chat.shows("user_2 is offline")
    socket.send(CROWD | {"participants": [two, three], "partial": True})
    await chat.shows("Two is busy")
    socket.send({"type": "presence_join", "userId": "user_3", "displayName": "Three"})
    await chat.shows("Three is online")
    chat.type("/unwatch user_2\n")
    assert await socket.recv() == {"type": "unwatch", "userIds": ["user_2"]}
    chat.type("/watch\n")
    await chat.shows("Three is online")
    await chat.shows("4000 are online")
    chat.type("/watch No!\n")
    chat.type("/quit\n")
    code, _, errors = await chat.end()
    assert code == 1 and "userIds: must be at most 500 user ids" in errors
