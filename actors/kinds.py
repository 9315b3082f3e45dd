"""Kinds of objects: what lives behind a name, and all that the runtime knows of it.

One shell runs every kind. Rooms and the registry are at home here; all others are
brought by guests (guests.py), and this module must name none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from cfmessenger.chat import mirror, presence
from cfmessenger.chat.effects import Effect, GuestEffect
from cfmessenger.chat.interests import USUAL_ALL
from cfmessenger.chat.machine import Life, Machine
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.clock import Clock
from cfmessenger.ids import PRESENCE, room_id_of, room_name


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

    `fresh(life)` makes it from nothing, `restore(life, snapshot, clean)` from a
    snapshot: not clean means that the object has lived since, so its roster is not to
    be believed.
    `is_later`: whether a snapshot is of a version that only a later release can read.
    `derived`: what is written, best effort, for an effect of the machine's own; such
    an effect that is not here goes to the `attendant`.
    """

    fresh: Callable[[Life], Machine]
    restore: Callable[[Life, bytes, bool], Machine]
    is_later: Callable[[bytes], bool] = lambda snapshot: False
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


def at_home(
    rules: RoomRules, sources: Collection[str], presence_all: int = USUAL_ALL
) -> dict[str, KindOf]:
    """Rooms, and the registry; `sources` are the guests that may publish there. With
    more than `presence_all` people online it is a crowd."""

    def room(name: str) -> Kind:
        room_id = room_id_of(name)
        return Kind(
            lambda life: Room(room_id, rules, life),
            lambda life, data, clean: Room.restore(room_id, rules, data, clean, life),
            mirror.is_later,
        )

    def registry(name: str) -> Kind:
        return Kind(
            lambda life: Presence(life, presence_all),
            lambda life, data, clean: Presence.restore(
                data, clean, sources, life, presence_all
            ),
            presence.is_later,
        )

    return {room_name(""): room, PRESENCE: registry}
