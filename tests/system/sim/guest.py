"""A guest of the world: answers each chat message of a room, and says so twice.

Twice, as one may that does not know whether it was heard; a room says it once. What it
says names the message that it heard, for the checker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from actors.guests import Guest, Invitation
from actors.kinds import Kind, KindOf
from cfmessenger.chat.effects import Effect, Notify, Says, encode_notification
from cfmessenger.chat.machine import Machine
from cfmessenger.chat.room import Earlier, RoomRules
from cfmessenger.ids import room_name
from cfmessenger.wire.events import ChatMessage
from tests.system.sim.history import GUEST

NAME: Final = "guest:parrot"
INVITED = Invitation(__name__)


class Heard(msgspec.Struct, frozen=True):
    """A room committed this message."""

    room: str
    seq: int
    sender_id: str
    id: str


decode = msgspec.msgpack.Decoder(Heard).decode


class Parrot(Machine):
    """Keeps nothing in mind."""

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        told = decode(notification)
        says = Says(GUEST, GUEST, told.seq, f"{told.sender_id} said {told.id}")
        return [Notify(room_name(told.room), encode_notification(says))] * 2


def hear(message: ChatMessage, earlier: Earlier) -> Notify:
    heard = Heard(message.room_id, message.seq, message.sender_id, message.id)
    return Notify(NAME, msgspec.msgpack.encode(heard))


class ParrotGuest(Guest):
    name = "parrot"

    @property
    def kinds(self) -> Mapping[str, KindOf]:
        return {NAME: lambda name: Kind(Parrot, lambda life, *mirror: Parrot(life))}

    def rules(self, rules: RoomRules) -> RoomRules:
        return replace(rules, ears=(*rules.ears, hear))


def arrive(told: bytes, secrets: object) -> Guest:
    return ParrotGuest()
