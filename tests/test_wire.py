"""Golden frames: the protocol of wire.md as JSON examples, byte for byte.

Reads as documentation of what travels. A change here is a change of the protocol and
breaks clients, the unmodified original browser client among them.
"""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from cfmessenger.chat.effects import (
    Append,
    Attachment,
    Broadcast,
    Effect,
    Send,
    Tell,
)
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.errors import ProtocolError
from cfmessenger.link.onlookers import Onlookers
from cfmessenger.wire import protocol as wire
from cfmessenger.wire.events import ChatMessage

# wire.md §2: room socket, client to server.

ROOM_FRAMES: dict[bytes, wire.RoomFrame] = {
    b'{"type":"chat","content":"hi there","id":"c-1"}': wire.Chat("hi there", "c-1"),
    b'{"type":"chat","content":"hi there"}': wire.Chat("hi there"),
    b'{"type":"nudge","id":"n.1"}': wire.Nudge("n.1"),
    b'{"type":"nudge"}': wire.Nudge(),
    b'{"type":"wink","winkId":"dancing_pig","id":"w:1"}': wire.Wink(
        "dancing_pig", "w:1"
    ),
    b'{"type":"typing","isTyping":true}': wire.Typing(True),
    b'{"type":"presence","status":"busy","displayName":"Ann"}': wire.SetPresence(
        "busy", "Ann"
    ),
    b'{"type":"presence","status":"offline"}': wire.SetPresence("offline"),
    b'{"type":"ack","ackId":"c-1","status":"delivered"}': wire.Ack("c-1", "delivered"),
    b'{"type":"ack","ackId":"c-1","status":"read"}': wire.Ack("c-1", "read"),
    b'{"type":"ping","t":1125000000000}': wire.Ping(1_125_000_000_000),
    b'{"type":"ping"}': wire.Ping(),
}

# wire.md §4: presence socket, client to server.

PRESENCE_FRAMES: dict[bytes, wire.PresenceFrame] = {
    b'{"type":"presence_update","status":"away"}': wire.UpdatePresence("away"),
    b'{"type":"presence_update","status":"online","displayName":"Ann"}': (
        wire.UpdatePresence("online", "Ann")
    ),
    b'{"type":"watch","userIds":["user_2","user_3"]}': wire.Watch(["user_2", "user_3"]),
    b'{"type":"unwatch","userIds":[]}': wire.Unwatch([]),
    b'{"type":"ping","t":1}': wire.Ping(1),
}

# wire.md §3: what is logged and shown.

CHAT = ChatMessage(
    "c-1",
    "general",
    "user_1",
    "Ann",
    "hi there",
    1_125_000_000_000,
    1,
    False,
    False,
)
CHAT_JSON = (
    b'{"type":"chat","id":"c-1","roomId":"general","senderId":"user_1",'
    b'"displayName":"Ann","content":"hi there","timestamp":1125000000000,"seq":1,'
    b'"isNudge":false,"isWink":false}'
)
READ_JSON = CHAT_JSON[:-1] + b',"status":"read"}'
ANN = wire.Participant("user_1", "Ann", "busy")
ANN_JSON = b'{"id":"user_1","displayName":"Ann","status":"busy"}'

SERVER_FRAMES: dict[bytes, Any] = {
    CHAT_JSON: CHAT,
    READ_JSON: msgspec.structs.replace(CHAT, status="read"),
    b'{"type":"system","content":"Connected to ChatRoom","timestamp":5,'
    b'"roomId":"general"}': wire.System("Connected to ChatRoom", 5, "general"),
    b'{"type":"system","content":"Connected to Global Presence","timestamp":5}': (
        wire.System("Connected to Global Presence", 5)
    ),
    b'{"type":"history","messages":[' + CHAT_JSON + b'],"roomId":"general",'
    b'"lastSeq":1,"gap":false}': wire.History([Raw(CHAT_JSON)], "general", 1, False),
    b'{"type":"participants","roomId":"general","participants":[' + ANN_JSON + b"]}": (
        wire.Participants("general", [ANN])
    ),
    b'{"type":"participants","roomId":"general","participants":['
    + ANN_JSON
    + b'],"total":201}': wire.Participants("general", [ANN], 201),
    b'{"type":"typing","roomId":"general","senderId":"user_1","displayName":"Ann",'
    b'"isTyping":true}': wire.TypingState("general", "user_1", "Ann", True),
    b'{"type":"delivery_status","roomId":"general","ackId":"c-1","status":"read",'
    b'"senderId":"user_2","timestamp":5}': wire.DeliveryStatus(
        "general", "c-1", "read", "user_2", 5
    ),
    b'{"type":"error","code":"RATE_LIMITED","message":"Slow.","content":"Slow.",'
    b'"retryable":true,"retryAfterMs":250,"id":"c-1"}': wire.ErrorFrame(
        "RATE_LIMITED", "Slow.", "Slow.", True, 250, "c-1"
    ),
    b'{"type":"session_expiring","expiresAt":5}': wire.SessionExpiring(5),
    b'{"type":"pong","timestamp":5,"t":3}': wire.Pong(5, 3),
    b'{"type":"pong","timestamp":5}': wire.Pong(5),
    b'{"type":"presence_full_sync","participants":['
    + ANN_JSON
    + b'],"online":1,"scope":"all"}': (wire.PresenceFullSync([ANN], 1, "all")),
    b'{"type":"presence_full_sync","participants":['
    + ANN_JSON
    + b'],"online":4000,"scope":"watched","partial":true}': (
        wire.PresenceFullSync([ANN], 4000, "watched", True)
    ),
    b'{"type":"presence_join","userId":"user_1","displayName":"Ann"}': (
        wire.PresenceJoin("user_1", "Ann")
    ),
    b'{"type":"presence_update","userId":"user_1","displayName":"Ann",'
    b'"status":"busy"}': wire.PresenceUpdate("user_1", "Ann", "busy"),
    b'{"type":"message_notification","message":' + CHAT_JSON + b"}": (
        wire.MessageNotification(Raw(CHAT_JSON))
    ),
}


@pytest.mark.parametrize("data", ROOM_FRAMES)
def test_a_room_socket_understands(data: bytes) -> None:
    assert wire.decode_room_frame(data) == ROOM_FRAMES[data]
    assert wire.encode(ROOM_FRAMES[data]) == data


@pytest.mark.parametrize("data", PRESENCE_FRAMES)
def test_a_presence_socket_understands(data: bytes) -> None:
    assert wire.decode_presence_frame(data) == PRESENCE_FRAMES[data]
    assert wire.encode(PRESENCE_FRAMES[data]) == data


@pytest.mark.parametrize("data", SERVER_FRAMES)
def test_the_server_says(data: bytes) -> None:
    assert wire.encode(SERVER_FRAMES[data]) == data


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (
            b"not json",
            b'{"type":"error","code":"INVALID_JSON",'
            b'"message":"The frame is not valid JSON.",'
            b'"content":"The frame is not valid JSON.","retryable":false}',
        ),
        (
            b'{"type":"typing","isTyping":"yes"}',
            b'{"type":"error","code":"VALIDATION_ERROR",'
            b'"message":"isTyping: must be true or false",'
            b'"content":"isTyping: must be true or false","retryable":false}',
        ),
        (
            b'{"type":"wink","winkId":"../etc","id":"w-1"}',
            b'{"type":"error","code":"VALIDATION_ERROR",'
            b'"message":"winkId: must be 1-64 of a-z 0-9 _ -",'
            b'"content":"winkId: must be 1-64 of a-z 0-9 _ -",'
            b'"retryable":false,"id":"w-1"}',
        ),
        (
            b'{"type":"system","content":"I am the server"}',
            b'{"type":"error","code":"UNKNOWN_TYPE",'
            b'"message":"There is no such frame type.",'
            b'"content":"There is no such frame type.","retryable":false}',
        ),
        (
            b'{"type":"chat","content":"%s"}' % (b"x" * 16_384),
            b'{"type":"error","code":"TOO_LARGE",'
            b'"message":"A frame is at most 16 KiB.",'
            b'"content":"A frame is at most 16 KiB.","retryable":false}',
        ),
    ],
)
def test_a_fault_is_answered(sent: bytes, answer: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_room_frame(sent)
    assert wire.error_frame(caught.value) == answer


def frames(effects: list[Effect]) -> list[bytes]:
    return [
        e.event if isinstance(e, Append) else e.frame
        for e in effects
        if isinstance(e, Append | Send | Broadcast)
    ]


def test_a_conversation() -> None:
    room = Room("general", RoomRules())
    ann = Attachment("g.1", "user_1", "Ann", "online")
    assert frames(room.connect(1_000, ann, None)) == [
        b'{"type":"system","content":"Connected to ChatRoom","timestamp":1000,'
        b'"roomId":"general"}',
        b'{"type":"system","content":"Ann joined the room.","timestamp":1000,'
        b'"roomId":"general"}',
    ]
    assert frames(room.alarm(1_050)) == [
        b'{"type":"participants","roomId":"general","participants":['
        b'{"id":"user_1","displayName":"Ann","status":"online"}]}'
    ]
    said = b'{"type":"wink","winkId":"heart","id":"w-1"}'
    (append,) = room.message(1_100, "g.1", said, "unused")
    wink = (
        b'{"type":"wink","id":"w-1","roomId":"general","senderId":"user_1",'
        b'"displayName":"Ann","content":"sent a wink.","timestamp":1100,"seq":1,'
        b'"isNudge":false,"isWink":true,"winkId":"heart","playAt":1600,'
        b'"playbackKey":"f017a6a683de4d44"}'
    )
    assert append == Append(1, wink, shown=True)
    assert frames(room.message(1_200, "g.1", b'{"type":"nudge","id":"n-1"}', "")) == [
        b'{"type":"nudge","id":"n-1","roomId":"general","senderId":"user_1",'
        b'"displayName":"Ann","content":"sent a nudge.","timestamp":1200,"seq":2,'
        b'"isNudge":true,"isWink":false}'
    ]
    ben = Attachment("g.2", "user_2", "Ben", "online")
    assert frames(room.connect(1_300, ben, 1))[1].startswith(
        b'{"type":"history","messages":[{"type":"nudge","id":"n-1",'
    )
    assert frames(room.close(1_400, "g.2")) == [
        b'{"type":"system","content":"Ben left the room.","timestamp":1400,'
        b'"roomId":"general"}'
    ]


def test_presence() -> None:
    presence = Presence()
    ann = Attachment("g.1", "user_1", "Ann", "online")
    assert frames(presence.connect(1_000, ann)) == [
        b'{"type":"system","content":"Connected to Global Presence","timestamp":1000}'
    ]
    crowd: Onlookers[str] = Onlookers({"user_2": "Ben"}.get)
    crowd.enter("g.1", "user_1", ())
    crowd.watch("g.1", ["user_2", "nobody"])
    wants = crowd.wanted.leaving()
    assert wants is not None
    presence.want(1_000, "g", wants)
    (tell,) = presence.alarm(1_050)
    assert isinstance(tell, Tell)
    ((sockets, told),) = crowd.told(tell.news)
    assert sockets == ["g.1"] and told == [
        b'{"type":"presence_full_sync","participants":['
        b'{"id":"user_1","displayName":"Ann","status":"online"}],'
        b'"online":1,"scope":"all"}',
        b'{"type":"presence_full_sync","participants":['
        b'{"id":"user_2","displayName":"Ben","status":"offline"}],'
        b'"online":1,"scope":"all","partial":true}',
    ]
    presence.connect(2_000, Attachment("h.1", "user_3", "Cat", "away"))
    (tell,) = presence.alarm(2_050)
    assert isinstance(tell, Tell)
    ((sockets, told),) = crowd.told(tell.news)
    assert sockets == ["g.1"] and told == [
        b'{"type":"presence_join","userId":"user_3","displayName":"Cat"}',
        b'{"type":"presence_update","userId":"user_3","displayName":"Cat",'
        b'"status":"away"}',
    ]


USER = {
    "id": "user_1",
    "email": "ann@example.org",
    "displayName": "Ann",
    "avatarId": "duck",
    "status": "online",
    "isAiBot": False,
    "personalMessage": "brb",
}
BOT = {
    "id": "bot_1",
    "email": "bot@example.org",
    "displayName": "Bot",
    "avatarId": "robot",
    "status": "online",
    "isAiBot": True,
    "persona": "A night owl.",
    "botArchetype": "owl",
    "botStyle": "lower case",
}
ROOM = {
    "id": "dm_user_1__user_2",
    "name": "Ben",
    "type": "direct",
    "participantIds": ["user_1", "user_2"],
    "unreadCount": 2,
}


@pytest.mark.parametrize(
    ("shape", "example"),
    [(wire.User, USER), (wire.User, BOT), (wire.RoomInfo, ROOM)],
)
def test_the_payloads_of_http(shape: type, example: dict[str, Any]) -> None:
    value = msgspec.convert(example, shape)
    assert wire.encode(value) == msgspec.json.encode(example)
