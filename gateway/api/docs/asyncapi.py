"""The AsyncAPI 3 document of the two WebSockets (wire.md §2-4 and §6).

It describes the gateway: what it receives is what clients send. Every message is a
frame type of `cfmessenger.wire.protocol`, with the rule of its row and an example.
"""

from __future__ import annotations

import msgspec

from cfmessenger import __version__
from cfmessenger.errors import ERRORS, CloseCode, Where, codes
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event
from gateway.api.docs import examples
from gateway.api.docs.openapi import SECURITY
from gateway.api.docs.schema import (
    JSON,
    components,
    events,
    plain,
    reference,
    tags,
)

_ABOUT = """\
Two sockets: one for each room, one for presence. One JSON object per text frame, its
`type` first; at most 16 KiB from a client (more gets a TOO_LARGE error, more than
64 KiB closes with 1009). Unknown fields are ignored. An unknown type, a wrong type or a
value out of range gets an `error` frame and changes nothing. The server sets sender,
name, room, time and `seq`, whatever a client puts there.

What has a `seq` is an event: show its `content` if you do not know its `type`. It is
shown to anyone, its sender included, only once it is durable: the sender's own echo,
with its `seq`, is the acknowledgement. After that it is in the room's history whatever
process dies next. STORAGE_UNAVAILABLE means: not confirmed, shown to nobody so far; a
retry with the same `id` is one message.

Reconnect with `?since=<last seq>` and nothing is missed.

In this document the gateway is the application: it *receives* what clients send. The
HTTP side, refused handshakes included, is described by [OpenAPI](/api/openapi.json)."""

_RULES: dict[str, str] = {
    "client.typing": (
        "Ends by itself 3 s after the last `true`, and when the socket closes. At most "
        "5 changes a second travel; the last wins. Of a crowd at most 5 people are "
        "shown at a time."
    ),
    "client.presence": "Updates the participants list and global presence.",
    "client.ack": (
        "The newest message with that id that the sender of the ack did not write. "
        "Only upgrades: sent, delivered, read. Unknown or own ids, and acks beyond "
        "100 a second, are ignored in silence; of a crowd's sockets together, too."
    ),
    "client.ping": "Answered with `pong`. Wakes nobody and costs no rate.",
    "client.presence_update": "`offline` means shown offline.",
    "client.watch": (
        "Added up over frames: at most 500 people are watched by one socket, and more "
        "is VALIDATION_ERROR. Answered with a partial `presence_full_sync` of these. "
        "Where few are online (`scope: all`) it changes nothing else that is sent. To "
        "be said again after a reconnect."
    ),
    "client.unwatch": "Not answered. Of whom it has a direct room with it still hears.",
    "server.system": (
        'The greeting comes first. "X joined/left the room." in group rooms that are '
        "no crowd, per user."
    ),
    "server.history": (
        "On connect when there is something to show: the latest 100. With `?since=` "
        "always, exactly what came after it, in frames of at most 100; `gap: true` "
        "when some of it is no longer kept, or that `since` is of another `era`."
    ),
    "server.participants": (
        "On join, leave and presence change, within 50 ms; one entry per user. In a "
        "crowd, a group room of more than 200 people, there is `total`: the list has "
        "the latest 200 alone, the receiver always among them, and comes every 2 s at "
        "most (5 s above 2,000 people)."
    ),
    "server.typing": "To everyone but the sender's own sockets.",
    "server.delivery_status": "After an `ack` that upgraded.",
    "server.error": "Names the field and the rule, never the value.",
    "server.session_expiring": "Two minutes before the session ends.",
    "server.pong": "The answer to `ping`.",
    "server.presence_full_sync": (
        "On connect: everyone online; `online` says how many are. With more than "
        "`CFM_PRESENCE_ALL` (500; back at 400) `scope` is `watched`: then it holds the "
        "receiver, whom it watches, with whom it has a direct room, and the bots, and "
        "only changes of these are sent. When `scope` changes each socket gets another "
        "one. With `partial: true` all others stay as they are: the changed ones "
        "alone, when more than 8 changed within 50 ms, or the answer to a `watch`, "
        "which has those who are offline too."
    ),
    "server.presence_join": "Somebody came online.",
    "server.presence_update": "A status or name changed; `offline` when they left.",
    "server.message_notification": (
        "For direct rooms, once to every presence socket of both participants. At "
        "most once: the log is the truth."
    ),
}
"""The rule of each row of wire.md §2-4, by message; what is durable says its own."""

_ALWAYS_TOLD = ("error", "session_expiring", "pong")
_CHANNELS: dict[str, tuple[str, ...]] = {
    "room": (
        *(f"client.{tag}" for tag in tags(protocol.RoomFrame)),
        "server.system",
        "server.history",
        "server.participants",
        *(f"server.{tag}" for tag in tags(Event)),
        "server.typing",
        "server.delivery_status",
        *(f"server.{kind}" for kind in _ALWAYS_TOLD),
    ),
    "presence": (
        *(f"client.{tag}" for tag in tags(protocol.PresenceFrame)),
        "server.system",
        "server.presence_full_sync",
        "server.presence_join",
        "server.presence_update",
        "server.message_notification",
        *(f"server.{kind}" for kind in _ALWAYS_TOLD),
    ),
}
"""What travels on each socket."""

_PARAMETER_ID: JSON = {
    "description": (
        "`[a-z0-9][a-z0-9_-]{0,63}`: `general`, `music`, or a direct room "
        "`dm_<a>__<b>`. Others exist where the operator opens them."
    ),
    "examples": ["general", "dm_user_1__user_2"],
}
_TICKET: JSON = {
    "type": "string",
    "description": "From `POST /api/auth/ticket`: once, within 30 s.",
}
_SESSION_ID: JSON = {
    "type": "string",
    "description": "What the original client sends. Never logged.",
}
_SINCE: JSON = {
    "type": "integer",
    "minimum": 0,
    "description": "The last `seq` this client has.",
}
_ERA: JSON = {
    "type": "integer",
    "minimum": 0,
    "description": "The `era` of that; none until something was lost for good.",
}
_SECURITY: JSON = {
    name: row | {"type": "httpApiKey"} if row["type"] == "apiKey" else row
    for name, row in SECURITY.items()
}


_OF_A_HANDSHAKE = Where.BELOW | Where.SOCKET | Where.SESSION | Where.ROOM | Where.ENTRY


def document() -> JSON:
    """The AsyncAPI document, as JSON's types."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "CF Messenger sockets",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT"},
            "externalDocs": {"description": "For people", "url": "/docs"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": {
            **_operations("room", "Room"),
            **_operations("presence", "Presence"),
        },
        "components": {
            "messages": _messages(),
            "schemas": events()
            | components(
                *map(type, examples.FROM_CLIENT), *map(type, examples.FROM_SERVER)
            ),
            "securitySchemes": _SECURITY,
        },
        "x-close-codes": _close_codes(),
        "x-error-codes": _error_codes(),
        "x-handshake-errors": _handshake_errors(),
    }


def _servers() -> JSON:
    return {
        "gateway": {
            "host": "{host}",
            "protocol": "ws",
            "description": "Any gateway; `wss` behind a proxy that ends TLS.",
            "variables": {"host": {"default": "localhost:8000"}},
            "security": [
                {"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY
            ],
        }
    }


def _channels() -> JSON:
    return {
        "room": {
            "address": "/api/ws/room/{id}",
            "title": "Room",
            "description": "One room: its messages, who is there, who types.",
            "parameters": {"id": _PARAMETER_ID},
            "messages": _references("room"),
            "bindings": _binding(
                ticket=_TICKET, sessionId=_SESSION_ID, since=_SINCE, era=_ERA
            ),
        },
        "presence": {
            "address": "/api/ws/presence",
            "title": "Presence",
            "description": (
                "Who is online, and notifications of direct messages. A user is "
                "online while any of their sockets is open."
            ),
            "messages": _references("presence"),
            "bindings": _binding(ticket=_TICKET, sessionId=_SESSION_ID),
        },
    }


def _close_codes() -> list[JSON]:
    return [
        {
            "code": int(code),
            "name": code.name,
            "description": code.description,
            "reconnect": code.reconnect,
        }
        for code in CloseCode
    ]


def _error_codes() -> JSON:
    return {
        code: {
            "description": ERRORS[code].message,
            "retryable": ERRORS[code].retryable,
        }
        for code in codes(Where.FRAME)
    }


def _handshake_errors() -> list[JSON]:
    return [
        {
            "status": ERRORS[code].status,
            "code": code,
            "description": ERRORS[code].message,
        }
        for code in codes(_OF_A_HANDSHAKE)
    ]


def _messages() -> dict[str, JSON]:
    """Every message by name: `client.` or `server.` and its type."""
    found: dict[str, JSON] = {}
    for sent in examples.FROM_CLIENT:
        _add(found, "client", sent)
    for told in (*examples.EVENTS, *examples.FROM_SERVER):
        _add(found, "server", told)
    return found


def _add(found: dict[str, JSON], side: str, example: msgspec.Struct) -> None:
    kind = type(example)
    payload = plain(example)
    name = f"{side}.{payload['type']}"
    summary, _, rule = (kind.__doc__ or "").partition("\n\n")
    found[name] = {
        "name": payload["type"],
        "title": payload["type"],
        "summary": " ".join(summary.split()),
        "description": " ".join(rule.split()) or _RULES[name],
        "payload": reference(kind.__name__),
        "examples": [{"name": payload["type"], "payload": payload}],
    }


def _references(channel: str) -> JSON:
    return {
        name: {"$ref": f"#/components/messages/{name}"} for name in _CHANNELS[channel]
    }


def _binding(**query: JSON) -> JSON:
    return {
        "ws": {
            "method": "GET",
            "query": {"type": "object", "properties": query},
            "bindingVersion": "0.1.0",
        }
    }


def _operations(channel: str, title: str) -> JSON:
    def listed(side: str, *but: str) -> list[JSON]:
        return [
            {"$ref": f"#/channels/{channel}/messages/{name}"}
            for name in _CHANNELS[channel]
            if name.startswith(side) and name not in but
        ]

    here = {"$ref": f"#/channels/{channel}"}
    ping = f"#/channels/{channel}/messages/client.ping"
    pong = f"#/channels/{channel}/messages/server.pong"
    return {
        f"receiveFrom{title}": {
            "action": "receive",
            "channel": here,
            "title": "From a client",
            "summary": "What a client may send.",
            "messages": listed("client", "client.ping"),
        },
        f"answerPingOf{title}": {
            "action": "receive",
            "channel": here,
            "title": "Ping",
            "summary": "Measures the clock offset.",
            "messages": [{"$ref": ping}],
            "reply": {"channel": here, "messages": [{"$ref": pong}]},
        },
        f"sendTo{title}": {
            "action": "send",
            "channel": here,
            "title": "To a client",
            "summary": "What a client is told.",
            "messages": listed("server", "server.pong"),
        },
    }
