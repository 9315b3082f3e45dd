"""Which machine lives behind which name: `room:<id>` a Room, `presence:global` the
registry, `bots:director` the director.

One shell runs every kind of object, so this is the only place of the runtime that knows
them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from actors.thinking import Bots
from cfmessenger.bots import NAME
from cfmessenger.bots.director import Budget, Director, Persona
from cfmessenger.chat.effects import Attachment, Effect
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.ids import DIRECTOR, PRESENCE, is_room, room_id_of


class Machine(Protocol):
    """The verbs that all machines share. `now` is integer ms since 1970."""

    epoch: int  # 0 until one is taken
    previous_epoch: int  # of the life before this one; 0: none, or not loaded yet
    crashed: bool  # that life did not end with a mirror
    receipts_changed: bool  # since the last mirror
    absent: set[str]  # gateways that the mirror names, less the dead

    @property
    def seq(self) -> int: ...
    @property
    def sockets(self) -> int: ...
    @property
    def alarm_at(self) -> int | None: ...
    @property
    def gateways(self) -> set[str]: ...
    def connect(
        self, now: int, attachment: Attachment, since: int | None, greeted: bool = False
    ) -> list[Effect]: ...
    def message(
        self, now: int, conn: str, data: bytes, fresh_id: str
    ) -> list[Effect]: ...
    def close(self, now: int, conn: str) -> list[Effect]: ...
    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]: ...
    def change(self, now: int, attachment: Attachment) -> list[Effect]: ...
    def missed(self, gateway: str) -> None: ...
    def detach(self, now: int, gateway: str) -> list[Effect]: ...
    def notify(self, now: int, notification: bytes) -> list[Effect]: ...
    def alarm(self, now: int) -> list[Effect]: ...
    def replay(self, now: int, epoch: int, seq: int, event: bytes) -> None: ...
    def skip(self, seq: int) -> None: ...
    def events_after(self, seq: int) -> list[bytes] | None: ...
    def snapshot(self) -> bytes: ...


class Kind(NamedTuple):
    """How one object's machine is made, from nothing or from a snapshot.

    `restore(snapshot, clean)`: not clean means that the object has lived since the
    snapshot, so its roster is not to be believed.
    """

    fresh: Callable[[], Machine]
    restore: Callable[[bytes, bool], Machine]


def kind_of(name: str, rules: RoomRules, bots: Bots | None = None) -> Kind:
    """The kind behind a name. Raises ValueError for a name that is none."""
    if name == DIRECTOR and bots is not None:
        return _director(bots)
    if name == PRESENCE:
        sources = [NAME] if bots is not None else []
        return Kind(
            Presence, lambda data, clean: Presence.restore(data, clean, sources)
        )
    if is_room(name):
        room_id = room_id_of(name)
        return Kind(
            lambda: Room(room_id, rules),
            lambda data, clean: Room.restore(room_id, rules, data, clean=clean),
        )
    raise ValueError(f"no kind of object is called {name!r}")


def _director(bots: Bots) -> Kind:
    personas = [Persona(*names) for names in bots.names]
    budget = Budget(bots.active, bots.quota_day, bots.quota_user, bots.quota_room)
    return Kind(
        lambda: Director(personas, budget),
        lambda data, clean: Director.restore(personas, budget, data, clean=clean),
    )
