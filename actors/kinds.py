"""Kinds of objects: what lives behind a name, and all that the runtime knows of it.

One shell runs every kind. Rooms and the registry are at home here; all others are
brought by guests (guests.py), and this module must name none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from cfmessenger.chat.effects import Attachment, Effect, GuestEffect
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.clock import Clock
from cfmessenger.ids import PRESENCE, room_id_of, room_name


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


class Shell(Protocol):
    """What an activation does for its attendant."""

    @property
    def clock(self) -> Clock: ...
    async def ask(self, *command: object) -> Any:
        """Storage's reply. Raises `Unavailable`."""

    def tell(self, notification: bytes) -> None:
        """The machine is notified, unless it takes no events now."""

    def show(self, effect: Effect) -> None:
        """As if the machine had returned it; best effort, so nothing durable."""

    def route(self, target: str, gateway: str) -> None:
        """Notify this object by this gateway, from which its question came."""


class Attendant(Protocol):
    """What an object needs beside its machine, which may not wait.

    Made when the machine first returns an effect that is for it. One that is `busy`
    keeps its object awake. `cancel` means all that it has begun: the machine is
    dropped, or goes to sleep.
    """

    @property
    def busy(self) -> bool: ...
    def take(self, effect: GuestEffect, gateway: str | None) -> None: ...
    def cancel(self) -> None: ...


Command = tuple[Any, ...]


class Kind(NamedTuple):
    """One object's machine and what belongs to it.

    `fresh` makes it from nothing, `restore(snapshot, clean)` from a snapshot: not clean
    means that the object has lived since, so its roster is not to be believed.
    `derived`: what is written, best effort, for an effect of the machine's own; such
    an effect that is not here goes to the `attendant`.
    """

    fresh: Callable[[], Machine]
    restore: Callable[[bytes, bool], Machine]
    attendant: Callable[[Shell], Attendant] | None = None
    derived: Mapping[type[GuestEffect], Callable[[Any], Sequence[Command]]] = (
        MappingProxyType({})
    )


KindOf = Callable[[str], Kind]
"""From an object's name to its kind."""


class Kinds:
    """All kinds of a process, by name; or, for names that begin alike, by what they
    begin with up to the colon (`room:`)."""

    def __init__(self, kinds: Mapping[str, KindOf]) -> None:
        self._kinds = kinds

    def of(self, name: str) -> Kind:
        """The kind behind a name. Raises ValueError for a name that is none."""
        begins, colon, _ = name.partition(":")
        found = self._kinds.get(name) or self._kinds.get(begins + colon)
        if found is None:
            raise ValueError(f"no kind of object is called {name!r}")
        return found(name)


def at_home(rules: RoomRules, sources: Collection[str]) -> dict[str, KindOf]:
    """Rooms, and the registry; `sources` are the guests that may publish there."""

    def room(name: str) -> Kind:
        room_id = room_id_of(name)
        return Kind(
            lambda: Room(room_id, rules),
            lambda data, clean: Room.restore(room_id, rules, data, clean=clean),
        )

    def registry(name: str) -> Kind:
        return Kind(
            Presence, lambda data, clean: Presence.restore(data, clean, sources)
        )

    return {room_name(""): room, PRESENCE: registry}
