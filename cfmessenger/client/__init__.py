"""The Python client: log in, talk in rooms, see who is there (wire.md from outside).

    async with Client("http://127.0.0.1:8000") as client:
        async with await client.login("user_1") as session:
            async with session.room("general") as room:
                echo = await room.send("hello")
                async for event in room:
                    ...

Used by `cfmessenger chat`, the tests and, for the machines of state.py, the load
harness. Owns nothing itself: this is the public face of the package.
"""

from cfmessenger.client.connection import Options
from cfmessenger.client.errors import (
    ApiError,
    ClientError,
    ConnectionEnded,
    OutboxFull,
    RateLimited,
    Refused,
    SendRejected,
    SendTimeout,
    SessionEnded,
    Unreachable,
)
from cfmessenger.client.events import (
    DirectMessage,
    Gap,
    Lost,
    Opened,
    PresenceEvent,
    Recap,
    Rewound,
    RoomEvent,
)
from cfmessenger.client.presence import PresenceConnection
from cfmessenger.client.room import RoomConnection
from cfmessenger.client.room_state import RoomState
from cfmessenger.client.session import Client, Page, Session, Shown
from cfmessenger.client.state import ClientState, PresenceState

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ClientState",
    "ConnectionEnded",
    "DirectMessage",
    "Gap",
    "Lost",
    "Opened",
    "Options",
    "OutboxFull",
    "Page",
    "PresenceConnection",
    "PresenceEvent",
    "PresenceState",
    "RateLimited",
    "Recap",
    "Refused",
    "Rewound",
    "RoomConnection",
    "RoomEvent",
    "RoomState",
    "SendRejected",
    "SendTimeout",
    "Session",
    "SessionEnded",
    "Shown",
    "Unreachable",
]
