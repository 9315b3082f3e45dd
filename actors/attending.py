"""Attending: an object's own effects, carried out by what its kind brings.

Owns an activation's attendant, and is the shell that this one knows (kinds.py). Must
not know what any of them does.
"""

from __future__ import annotations

from typing import Any, Protocol

from actors.kinds import Attendant, Kind
from cfmessenger.chat.effects import Effect, GuestEffect
from cfmessenger.clock import Clock
from cfmessenger.storage.derived import DerivedKeys


class Attended(Protocol):
    """An activation, as far as an attendant may reach it."""

    def tell(self, notification: bytes) -> None: ...
    def show(self, effect: Effect) -> None: ...
    def route(self, target: str, gateway: str) -> None: ...


class Attending:
    """One for each activation, as long as that."""

    def __init__(
        self, kind: Kind, derived: DerivedKeys, clock: Clock, attended: Attended
    ) -> None:
        self.clock = clock
        self.tell, self.show = attended.tell, attended.show
        self.route = attended.route
        self._kind = kind
        self._derived = derived
        self._attendant: Attendant | None = None  # from the first effect for it on

    def take(self, effect: Effect, gateway: str | None) -> None:
        """Carry out an effect that the runtime does not know; `gateway` caused it."""
        derive = self._kind.derived.get(type(effect))  # type: ignore[arg-type]
        if derive is not None:
            self._derived.write(*derive(effect))
            return
        make = self._kind.attendant
        if make is None or not isinstance(effect, GuestEffect):
            raise AssertionError(f"unknown effect {type(effect).__name__}")
        if self._attendant is None:
            self._attendant = make(self)
        self._attendant.take(effect, gateway)

    async def ask(self, *command: object) -> Any:
        """Storage's reply. Raises `Unavailable`."""
        return await self._derived.ask(*command)

    @property
    def busy(self) -> bool:
        """Something is under way, so the object stays awake."""
        return self._attendant is not None and self._attendant.busy

    def cancel(self) -> None:
        """The machine is dropped or goes to sleep: nobody waits for it any more."""
        if self._attendant is not None:
            self._attendant.cancel()
