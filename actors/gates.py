"""The gates of an object, as Durable Objects have them.

*Output gate*: nothing that an event caused is visible, to anyone, before every durable
event up to it is confirmed. Effects are held in the order the machine returned them;
while one append is in flight everything that arrives becomes the next one, so batching
is by what is already waiting and never by a timer (group commit).

*Input gate*: an activation that is still loading, or is being reset, takes no events;
they wait, and the gateways keep what is not covered (design.md §3.3).

This module is pure: it never waits and knows no storage, so the simulation runs the
very gates that the actors run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from cfmessenger.chat.effects import Append

Origin = TypeVar("Origin")
Sender = TypeVar("Sender")
Message = TypeVar("Message")


class Step(NamedTuple, Generic[Origin]):
    """The effects of one input, who sent it, its number there, and what the sender
    had `seen` of the object's events.

    An effect is one of effects.py's, or the runtime's own (`release.Seating`).
    `origin` is None for what no gateway caused (an alarm).
    """

    effects: Sequence[Any]
    origin: Origin | None
    n: int
    seen: int | None = None


class OutputGate(Generic[Origin]):
    """Steps are held, fly with one commit, and come out confirmed, always in order."""

    def __init__(self) -> None:
        self._held: list[Step[Origin]] = []  # from `hold` until `take_off`
        # From `take_off` until `land`; None: nothing is in flight.
        self._flying: list[Step[Origin]] | None = None

    @property
    def idle(self) -> bool:
        """Nothing held and nothing in flight: the machine's state is all confirmed."""
        return not self._held and self._flying is None

    @property
    def flying(self) -> bool:
        """A commit is in flight; what is held must wait for it."""
        return self._flying is not None

    @property
    def appends(self) -> bool:
        """Something that is held must be made durable first."""
        return any(
            type(effect) is Append for step in self._held for effect in step.effects
        )

    def hold(self, step: Step[Origin]) -> None:
        """Add the next step."""
        self._held.append(step)

    def take_off(self) -> list[tuple[int, bytes]]:
        """Put all held steps in flight and tell what must be appended first.

        With nothing to append the steps may `land` at once.
        """
        assert self._flying is None, "one commit at a time"
        self._flying, self._held = self._held, []
        return [
            (effect.seq, effect.event)
            for step in self._flying
            for effect in step.effects
            if type(effect) is Append
        ]

    def land(self) -> list[Step[Origin]]:
        """The commit is confirmed: these steps may be shown now."""
        assert self._flying is not None, "nothing in flight"
        steps, self._flying = self._flying, None
        return steps

    def drop(self) -> None:
        """Forget everything unconfirmed: the object is reset (design.md §3.5)."""
        self._held, self._flying = [], None


class InputGate(Generic[Sender, Message]):
    """Opens once in each life, when the object is loaded; what comes while it is shut
    is kept in order."""

    def __init__(self) -> None:
        self.open = False  # from `begin` until `shut`
        # What came while it was shut: until `begin` or `drop`.
        self.waiting: list[tuple[Sender, Message]] = []

    def keep(self, sender: Sender, message: Message) -> None:
        """It waits until the gate opens."""
        self.waiting.append((sender, message))

    def begin(self) -> list[tuple[Sender, Message]]:
        """Open, and hand over what was kept."""
        self.open = True
        waiting, self.waiting = self.waiting, []
        return waiting

    def shut(self) -> None:
        """Nothing more in this life."""
        self.open = False

    def forget(self, sender: Sender) -> None:
        """Nothing of this sender waits any more."""
        self.waiting = [entry for entry in self.waiting if entry[0] is not sender]

    def drop(self) -> None:
        """Shut, and forget all that waits: everybody was told to come again."""
        self.open, self.waiting = False, []
