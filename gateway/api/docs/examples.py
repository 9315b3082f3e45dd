"""One example of everything that travels, as values of the wire's own types.

So mypy reads them, and the tests hold each against the schema it illustrates. People
are the seeded list's.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from cfmessenger.chat.compose import compose, tell_lost
from cfmessenger.wire import protocol
from cfmessenger.wire.events import ChatMessage, Event
from cfmessenger.wire.protocol import Participant, RoomInfo, User
from gateway.api import payloads
from gateway.api.docs.schema import components

NOW = 1_764_115_200_000
_DIRECT = "dm_user_1__user_2"

# HTTP.

USER = User(
    id="user_1",
    email="maya@cfm.example",
    display_name="Maya ~*stargazer*~",
    avatar_id="star",
    status="online",
    is_ai_bot=False,
    personal_message="back in 5, don't nudge me",
)
BOT = User(
    id="bot_1",
    email="bot@cfm.example",
    display_name="SmarterBot",
    avatar_id="robot",
    status="online",
    is_ai_bot=True,
    bot_archetype="know-it-all",
)
ROOMS = [
    RoomInfo("general", "General", "group", [], 0),
    RoomInfo("music", "Music", "group", [], 0),
    RoomInfo(_DIRECT, "Tom [brb]", "direct", ["user_1", "user_2"], 2),
]
CONFIG = payloads.Config("1x00000000000000000000AA")
LOGIN = {"userId": "user_1", "token": "XXXX.DUMMY.TOKEN.XXXX"}
_SESSION = "kD1Q0n3qfVb8Yv3T0cJ6q4m0b2hXn7wq5mZrFJtYt2E"
LOGGED_IN = payloads.LoggedIn(_SESSION, USER, NOW + 1_200_000, "uk")
REFRESHED = payloads.Refreshed(
    "9yqkZ2m7bq1d0mW5xT4uJ8s6v3nR0pLc1hFgKeAoBiU", NOW + 1_200_000
)
TICKET = payloads.DrawnTicket(
    "Zr8nA1vQ0yXw3tU6pKc9LmE2sDfGhJb4RoViTeNaBzY", NOW + 30_000
)
PRESENCE = {"status": "busy", "displayName": "Maya (gig tonight)"}
SHOWN = payloads.ShownPresence("busy", "Maya (gig tonight)")

ROWS = {
    "users": {
        "id": "user_1",
        "email": "maya@cfm.example",
        "displayName": "Maya ~*stargazer*~",
        "avatarId": "star",
        "isAiBot": False,
        "personalMessage": "back in 5, don't nudge me",
    },
    "orders": {
        "id": "0d1f6b6e-0f5b-4a53-9a86-7a1f0f7c2b11",
        "ownerId": "user_1",
        "items": [{"name": "Mix CD", "quantity": 2, "unitPrice": 499}],
        "currency": "GBP",
        "status": "placed",
        "createdAt": NOW,
        "updatedAt": NOW,
    },
}
"""A row of each collection, as JSON: their types are the database's side of us."""

# Messages.


def _said(kind: type[protocol.DurableFrame]) -> protocol.DurableFrame:
    """What the types of its fields have as their examples."""
    described = components(kind)[kind.__name__]["properties"]
    fields = {
        name: rule["enum" if "enum" in rule else "examples"][0]
        for name, rule in described.items()
    }
    return msgspec.convert(fields, kind)


_SAID = tuple(map(_said, get_args(protocol.DurableFrame)))
EVENTS: tuple[Event, ...] = (
    *(
        compose(
            frame,
            f"m-{41 + i}",
            "general",
            "user_2",
            "Tom [brb]",
            NOW + i * 4_000,
            118 + i,
        )
        for i, frame in enumerate(_SAID)
    ),
    tell_lost("general", NOW + 20_000, 130, 121, 129),
)
"""One of each type, as a room would number them."""
_DIRECT_CHAT = ChatMessage(
    "m-42",
    _DIRECT,
    "user_2",
    "Tom [brb]",
    "psst",
    NOW + 12_000,
    3,
    is_nudge=False,
    is_wink=False,
)


def _raw(message: Event) -> msgspec.Raw:
    return msgspec.Raw(protocol.encode(message))


_SHOWN = [_raw(each) for each in EVENTS[:2]]
PAGE = payloads.MessagePage(_SHOWN, 118)

# Frames.

FROM_CLIENT: tuple[protocol.RoomFrame | protocol.PresenceFrame, ...] = (
    *_SAID,
    protocol.Typing(True),
    protocol.SetPresence("away", "Maya (tea)"),
    protocol.Ack("m-41", "read"),
    protocol.Ping(NOW),
    protocol.UpdatePresence("busy"),
    protocol.Watch(["user_2", "user_7"]),
    protocol.Unwatch(["user_7"]),
)
_PEOPLE = [
    Participant("user_1", "Maya ~*stargazer*~", "online"),
    Participant("user_2", "Tom [brb]", "away"),
]
FROM_SERVER: tuple[protocol.ServerFrame, ...] = (
    protocol.System("Connected to ChatRoom", NOW, "general"),
    protocol.History(_SHOWN, "general", 119, False),
    protocol.Participants("general", _PEOPLE),
    protocol.Participants("general", _PEOPLE, 5_000),
    protocol.TypingState("general", "user_2", "Tom [brb]", True),
    protocol.DeliveryStatus("general", "m-41", "read", "user_1", NOW + 2_000),
    protocol.ErrorFrame(
        "RATE_LIMITED",
        "Too many in too short a time.",
        "Too many in too short a time.",
        True,
        3_200,
        "m-43",
    ),
    protocol.SessionExpiring(NOW + 120_000),
    protocol.Pong(NOW + 17, NOW),
    protocol.PresenceFullSync(_PEOPLE, 4_012, "watched"),
    protocol.PresenceJoin("user_2", "Tom [brb]"),
    protocol.PresenceUpdate("user_2", "Tom [brb]", "away"),
    protocol.MessageNotification(_raw(_DIRECT_CHAT)),
)
