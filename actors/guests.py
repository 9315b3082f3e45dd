"""Guests: packages whose objects live here beside the rooms and the registry.

A guest is invited by the process that starts the actors, which names its module and
says what it must know; the `Invitation` travels in an actor's settings, and `arrive`
finds the module. So nothing of the runtime imports a guest, or knows which there are.

A guest's module has `arrive(told, secrets)`, which returns its `Guest`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

import msgspec

from actors.kinds import KindOf, Kinds, at_home
from cfmessenger.chat.interests import USUAL_ALL
from cfmessenger.chat.room import RoomRules


class Invitation(msgspec.Struct, frozen=True):
    """A guest's `module` and what it is `told`, in a form of its own. `secrets` are
    settings by their names: which of them the process of the object `home` is to read
    where it runs, and there what they are. No other process is given any."""

    module: str
    told: bytes = b""
    home: str = ""
    secrets: dict[str, str | None] = {}


class Guest:
    """What a package brings into an actor process, on whose loop it is made."""

    name: str
    """Under which the registry shows whom it publishes (`effects.Published`)."""

    @property
    def kinds(self) -> Mapping[str, KindOf]:
        """Its kinds of objects, as `Kinds` takes them."""
        return {}

    def rules(self, rules: RoomRules) -> RoomRules:
        """The rules of rooms, with its ears (`RoomRules.ears`)."""
        return rules

    async def aclose(self) -> None:
        """The process ends."""


def arrive(invitations: Sequence[Invitation]) -> list[Guest]:
    """The guests, in the order of their invitations."""
    found = []
    for each in invitations:
        module = importlib.import_module(each.module)
        guest: Guest = module.arrive(each.told, each.secrets)
        found.append(guest)
    return found


def all_kinds(
    rules: RoomRules, guests: Sequence[Guest], presence_all: int = USUAL_ALL
) -> Kinds:
    """All kinds of a process. Raises ValueError if two would have the same names."""
    for guest in guests:
        rules = guest.rules(rules)
    kinds = dict(at_home(rules, [guest.name for guest in guests], presence_all))
    for guest in guests:
        if taken := kinds.keys() & guest.kinds.keys():
            raise ValueError(f"{guest.name} brings what is there: {sorted(taken)}")
        kinds |= guest.kinds
    return Kinds(kinds)
