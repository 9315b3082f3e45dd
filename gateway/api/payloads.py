"""What the endpoints of wire.md §1 answer with, as types: the `data` of each envelope.

The endpoints build these and the OpenAPI document is made from them, so the two cannot
say different things. Requests are where they are checked (`endpoints`); frames, users
and rooms are `cfmessenger.wire.protocol`'s.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from cfmessenger.wire.protocol import Status, User


class _Payload(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    pass


class Config(msgspec.Struct, frozen=True, gc=False):
    """What a browser needs before it can sign in; the key is empty when unset."""

    TURNSTILE_SITE_KEY: str


class LoggedIn(_Payload, frozen=True, gc=False):
    """A new session and whose it is."""

    session_id: str
    user: User
    expires_at: int
    location_hint: str


class Refreshed(_Payload, frozen=True, gc=False):
    """The session under its new id; the old one is dead."""

    session_id: str
    expires_at: int


class LoggedOut(_Payload, frozen=True, gc=False):
    """The session is over."""

    success: Literal[True] = True


class DrawnTicket(_Payload, frozen=True, gc=False):
    """Stands for the session in one WebSocket URL."""

    ticket: str
    expires_at: int


class MessagePage(_Payload, frozen=True, gc=False):
    """Messages, oldest first; `nextBefore` asks for those before, if there are any.
    `era`: the room's, since which loss its numbers count."""

    messages: list[msgspec.Raw]
    next_before: int | UnsetType = UNSET
    era: int | UnsetType = UNSET


class ShownPresence(_Payload, frozen=True, gc=False):
    """The status and the name that others see."""

    status: Status
    display_name: str
