"""What one process writes and another one reads, perhaps of another release: one value
of each kind, how it is written and how it is read.

`python tests/system/versions/written.py` prints them as hexadecimal JSON. With the code
of a release on PYTHONPATH that is what this release writes; `written_before.json` is
what the release before did (test_written.py). So it uses only what that has, too. What
begins a link or a call (Hello, Welcome, Request) is negotiated and not here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from cfmessenger.accounts.session_record import Session
from cfmessenger.accounts.session_record import read as read_session
from cfmessenger.accounts.session_record import write as write_session
from cfmessenger.bots.director import Budget, Director, Persona
from cfmessenger.bots.inbox import Answered, Asked, RotationDue
from cfmessenger.bots.inbox import decode as read_inbox
from cfmessenger.bots.talk import Answer as Said
from cfmessenger.bots.talk import Question, Utterance
from cfmessenger.chat import effects, mirror
from cfmessenger.chat.effects import Attachment, News, Wants
from cfmessenger.chat.history import KeptRow
from cfmessenger.chat.presence import Presence
from cfmessenger.cli.archive import File, Manifest
from cfmessenger.link import messages as link
from cfmessenger.link.calls import Answer
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Own, Placement
from cfmessenger.storage.copying import Item, Kept
from cfmessenger.storage.members import Holder, Node
from cfmessenger.wire import events, protocol
from cfmessenger.wire.protocol import Participant


class Written(NamedTuple):
    """A value, and the bytes of it as this code writes them; `read` makes a value of
    such bytes."""

    value: Any
    data: bytes
    read: Callable[[bytes], Any]


_pack = msgspec.msgpack.encode
_json = msgspec.json.encode


def _packed(value: Any, kind: Any = None) -> Written:
    kind = kind or type(value)
    return Written(value, _pack(value), lambda d: msgspec.msgpack.decode(d, type=kind))


def _texted(value: Any, kind: Any = None) -> Written:
    kind = kind or type(value)
    return Written(value, _json(value), lambda d: msgspec.json.decode(d, type=kind))


def _event(event: Any) -> Written:
    data = protocol.encode(event)
    return Written(event, data, lambda d: events.read_event(event.seq, d)[0])


def _told(notification: Any) -> Written:
    data = effects.encode_notification(notification)
    return Written(notification, data, effects.decode_notification)


def _asked(told: Any) -> Written:
    return Written(told, _pack(told), read_inbox)


def _framed(message: Any, reader: Callable[[], link.MessageReader]) -> Written:
    def read(data: bytes) -> Any:
        (found,) = reader().feed(data)
        return found

    return Written(message, link.frame(message), read)


WHO = ("r", "user_1", "One")
SOCKET = Attachment(
    *("g1~2.7", "user_1", "One", "busy", True, False),
    *("at work", "star", 4, 5),
)
PERSON = Participant("user_1", "One", "busy", "at work", "star")
INPUTS: list[Any] = [
    link.Said(1, "g1.7", b'{"type":"ping"}', 3),
    link.Opened(2, SOCKET, 9, True, 8),
    link.Closed(3, "g1.7"),
    link.Notified(4, b"told"),
    link.Changed(5, SOCKET),
    link.GivenBefore(6),
]
ITEMS: list[Any] = [
    link.Fanout(b"blob", 7, "user_1"),
    link.ToSockets(("g1.7",), b"blob", True, 8),
    link.Subscribed(("g1.7",), 9),
    link.Closing("g1.7", 4501, "logged out"),
    link.Kept(SOCKET),
    link.CatchUp("g1.7", 3, 9),
    link.Recall("g1.7", 3),
    link.Forward("presence:global", b"told"),
    link.People(News(True, 600, 3, False, [PERSON], ["user_2"], ["user_3"])),
    link.Met(("g1.7",), ("user_1", "user_2")),
    link.Roll(b"frame", 2, 4, ("user_1",), ("g1.7",), ("g1.8",)),
]
SESSION = Session("user_1", "login", "ab" * 32, 1, 2, "nonce", "uk")


def _session() -> Written:
    command = [str(each) for each in write_session(SESSION, only_over_existing=False)]
    fields = command[command.index("FIELDS") + 2 :]

    def read(data: bytes) -> Any:
        flat = [each.encode() for each in json.loads(data)]
        record = dict(zip(flat[::2], flat[1::2], strict=True))
        return read_session(SESSION.token_hash, record)

    return Written(SESSION, _json(fields), read)


def written() -> dict[str, Written]:
    """By what it is called in docs/versions.md."""
    row = KeptRow(1, 1, "user_1", "m1", 5, b'{"type":"chat"}', "read", 77)
    room = mirror.RoomSnapshot(
        *(9, 5, [row], {"user_1": [5]}, {"user_2": [6]}, {}, [SOCKET], ["g1"], True)
    )
    chat = events.ChatMessage("m1", *WHO, "hi", 5, 1, False, False, era=1)
    line = Utterance("user_1", "One", "hi")
    question = Question("r", 3, "bot_1", "user_1", "One", "hi bot", 5, (line,))
    return {
        "event chat": _event(chat),
        "event nudge": _event(events.NudgeMessage("m2", *WHO, "n", 5, 2, True, False)),
        "event wink": _event(
            events.WinkMessage("m3", *WHO, "w", 5, 3, False, True, "wink", 9, "key")
        ),
        "event lost": _event(
            events.LostMessage("m4", "r", "", "", "gone", 5, 4, False, False, 1, 3)
        ),
        "mirror of a room": Written(room, mirror.encode(room), mirror.decode),
        "mirror of the registry": _presence(),
        "mirror of the director": _director(),
        "notification status": _told(effects.StatusChanged("user_1", "away")),
        "notification acquainted": _told(effects.Acquainted("user_1", "user_2")),
        "notification direct": _told(
            effects.DirectMessage(("user_1", "user_2"), b'{"type":"chat"}')
        ),
        "notification types": _told(effects.Types("bot_1", "Bot", True)),
        "notification says": _told(effects.Says("bot_1", "Bot", 3, "hello")),
        "notification published": _told(effects.Published("bots", (PERSON,))),
        "notification to the director, asked": _asked(Asked(question)),
        "notification to the director, answered": _asked(
            Answered("r", 3, Said("hi", 5, "ok"), 7)
        ),
        "generation": _texted(
            Placement(
                *("auto", 4, 12),
                {"room:a": Own("pinned", 5, 11)},
                {"room:b": (6, 12)},
            )
        ),
        "lease": _texted(Holder("id", "host", "10.0.0.1:6380")),
        "node": _texted(Node("id", "host", "tcp://h:1", "draining", 4, 5)),
        "settings": _texted({"CFM_LOG_LENGTH": "10000"}, dict[str, str]),
        "session": _session(),
        "link attach": _framed(
            link.Attach("room:r", 3, 7, 2, 4, [SOCKET], 5, 2, 6, 3, True),
            link.actor_reader,
        ),
        "link ping": _framed(link.Ping(3), link.actor_reader),
        "link pong": _framed(link.Pong(3), link.gateway_reader),
        "link goodbye": _framed(
            link.Goodbye("room:r", 3, 2, "moved", 5, True), link.gateway_reader
        ),
        "link inputs": _framed(
            link.Inputs("room:r", INPUTS, 5, Wants(3, True, ["user_2"], ["user_3"])),
            link.actor_reader,
        ),
        "link output": _framed(
            link.Output("room:r", 3, 2, ITEMS, 5), link.gateway_reader
        ),
        "namespace answer": _packed(
            Answer(7, "UNAVAILABLE", "why", msgspec.Raw(b"\xc0"))
        ),
        "namespace address": _packed(
            Address("10.0.0.1", 5, "key", "id", 9, "rooms:1", 12, "node")
        ),
        "namespace description": _packed(
            Described(
                "room:r", "pooled", 9, 3, 7, 2, "running", "rooms:1", 0.5, "hot", 5
            )
        ),
        "backup item": _packed(
            Item("room:r", 3, 7, [Kept("cfm:{room:r}:log", 0, b"dump")])
        ),
        "backup manifest": _texted(
            Manifest(
                version="0.1.0",
                began="a",
                ended="b",
                valkey="9",
                objects=1,
                others=2,
                left_out={"cfm:x": "why"},
                database="sqlite",
                files={"f": File(1, "ab")},
            )
        ),
    }


def _presence() -> Written:
    registry = Presence()
    registry.attach(5, "g1", [SOCKET])

    def read(data: bytes) -> Any:
        return Presence.restore(data, True).snapshot()

    return Written(registry.snapshot(), registry.snapshot(), read)


def _director() -> Written:
    personas = [Persona("bot_1", "Bot")]
    director = Director(personas, Budget())
    director.notify(5, _pack(RotationDue()))

    def read(data: bytes) -> Any:
        return Director.restore(personas, Budget(), data, True).snapshot()

    return Written(director.snapshot(), director.snapshot(), read)


if __name__ == "__main__":
    made = {name: each.data.hex() for name, each in written().items()}
    sys.stdout.write(json.dumps(made, indent=1) + "\n")
