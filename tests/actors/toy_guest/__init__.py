"""A guest as small as one can be: counts what rooms say, and tells them on the hour.

Everything that it is lies in this package, and nothing of the runtime names it. It
uses all that a guest may bring: a machine with an inbox, an attendant (which finds the
words) and a derived key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from actors.guests import Guest, Invitation
from actors.kinds import Kind, KindOf, Shell
from cfmessenger.background import Background
from cfmessenger.chat.effects import (
    Effect,
    GuestEffect,
    Notify,
    Says,
    encode_notification,
)
from cfmessenger.chat.machine import Life, Machine
from cfmessenger.chat.room import Earlier, RoomRules
from cfmessenger.ids import room_name
from cfmessenger.wire.events import ChatMessage

TALLY = "toy:tally"
KEY = "cfm:toy:total"


def invite(hour_ms: int) -> Invitation:
    return Invitation(__name__, str(hour_ms).encode())


def arrive(told: bytes, secrets: object) -> Guest:
    return ToyGuest(int(told))


class Said(msgspec.Struct, frozen=True, tag="said"):
    """A message was committed in this room."""

    room: str


class Worded(msgspec.Struct, frozen=True, tag="worded"):
    """The attendant has found words for a room."""

    room: str
    hour: int
    words: str


decode = msgspec.msgpack.Decoder[Said | Worded](Said | Worded).decode


class Word(GuestEffect, frozen=True, gc=False):
    """Find words for this many messages."""

    room: str
    hour: int
    count: int


class Total(GuestEffect, frozen=True, gc=False):
    """Write down how many there were in all."""

    count: int


class Tally(Machine):
    """By room how many messages, and which rooms are to be told at the next hour."""

    def __init__(self, life: Life, hour_ms: int, counts: dict[str, int]) -> None:
        super().__init__(life)
        self.counts = counts
        self._hour_ms = hour_ms
        self._news: set[str] = set()
        self._due: int | None = None

    @property
    def alarm_at(self) -> int | None:
        return self._due

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        told = decode(notification)
        if isinstance(told, Worded):
            says = Says("toy", "Toy", told.hour, told.words)
            return [Notify(room_name(told.room), encode_notification(says))]
        self.counts[told.room] = self.counts.get(told.room, 0) + 1
        self._news.add(told.room)
        self._due = (now // self._hour_ms + 1) * self._hour_ms
        return [Total(sum(self.counts.values()))]

    def alarm(self, now: int) -> list[Effect]:
        if self._due is None or self._due > now:
            return []
        hour, news = self._due // self._hour_ms, sorted(self._news)
        self._due, self._news = None, set()
        return [Word(room, hour, self.counts[room]) for room in news]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.counts)


class Words:
    """The attendant: takes its time."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._finding = Background()

    @property
    def busy(self) -> bool:
        return bool(self._finding)

    def take(self, effect: GuestEffect, gateway: str | None) -> None:
        assert isinstance(effect, Word)
        self._finding.begin(self._find(effect))

    async def _find(self, effect: Word) -> None:
        await asyncio.sleep(0)
        words = f"{effect.count} so far"
        told = msgspec.msgpack.encode(Worded(effect.room, effect.hour, words))
        self._shell.tell(told)

    def cancel(self) -> None:
        self._finding.cancel()


class ToyGuest(Guest):
    name = "toy"

    def __init__(self, hour_ms: int) -> None:
        self._hour_ms = hour_ms

    @property
    def kinds(self) -> Mapping[str, KindOf]:
        return {TALLY: self._tally}

    def _tally(self, name: str) -> Kind:
        def restored(life: Life, data: bytes, clean: bool) -> Tally:
            counts = msgspec.msgpack.decode(data, type=dict[str, int])
            return Tally(life, self._hour_ms, counts)

        return Kind(
            lambda life: Tally(life, self._hour_ms, {}),
            restored,
            attendant=Words,
            derived={Total: lambda told: [("SET", KEY, told.count)]},
        )

    def rules(self, rules: RoomRules) -> RoomRules:
        return replace(rules, ears=(*rules.ears, self._hear))

    @staticmethod
    def _hear(message: ChatMessage, earlier: Earlier) -> Notify:
        return Notify(TALLY, msgspec.msgpack.encode(Said(message.room_id)))
