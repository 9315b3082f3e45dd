"""A chat room as a Django Channels consumer: what a Django shop would write.

Runs in an environment of its own under uvicorn, with the channel layer in memory, or in
the Valkey that `BENCH_VALKEY` names. It says what ours says and stores nothing; the seq
is this process's own, so one process serves all rooms.
"""

import asyncio
import json
import os
import time
from collections import Counter, defaultdict
from typing import Any
from urllib.parse import parse_qs

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import re_path

# A saturated room must not lose messages, which is what a full channel does here.
CAPACITY = 100_000


def channel_layer() -> dict[str, Any]:
    url = os.environ.get("BENCH_VALKEY")
    if url:
        backend = "channels_valkey.core.ValkeyChannelLayer"
        config = {"hosts": [url], "capacity": CAPACITY}
    else:
        backend = "channels.layers.InMemoryChannelLayer"
        config = {"capacity": CAPACITY}
    return {"BACKEND": backend, "CONFIG": config}


settings.configure(
    SECRET_KEY="bench",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": channel_layer()},
)
django.setup()

seqs: Counter[str] = Counter()
# Without it messages overtake each other on the way to a layer outside the process.
orders: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)


class Room(AsyncWebsocketConsumer):
    """One socket in one room."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        query = parse_qs(self.scope["query_string"].decode())
        self.user = query.get("user", ["nobody"])[0]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        greeting = {
            "type": "system",
            "content": "Connected to ChatRoom",
            "roomId": self.room,
            "timestamp": now_ms(),
        }
        await self.send(json.dumps(greeting))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        said = json.loads(text_data or "{}")
        if said.get("type") != "chat" or not isinstance(said.get("content"), str):
            return
        async with orders[self.room]:
            await self.publish(said)

    async def publish(self, said: dict[str, Any]) -> None:
        seqs[self.room] += 1
        event = {
            "type": "chat",
            "id": said.get("id"),
            "roomId": self.room,
            "senderId": self.user,
            "displayName": self.user,
            "content": said["content"],
            "timestamp": now_ms(),
            "seq": seqs[self.room],
            "isNudge": False,
            "isWink": False,
        }
        # Encoded once, not in each consumer.
        text = json.dumps(event, separators=(",", ":"))
        await self.channel_layer.group_send(
            self.room, {"type": "room.event", "text": text}
        )

    async def room_event(self, message: dict[str, Any]) -> None:
        await self.send(message["text"])


def now_ms() -> int:
    return int(time.time() * 1000)


application = ProtocolTypeRouter(
    {"websocket": URLRouter([re_path(r"^(?P<room>[a-z0-9]+)$", Room.as_asgi())])}
)
