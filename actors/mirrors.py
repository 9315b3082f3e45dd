"""An object's mirrors: live ones now and then, and the last one as it goes to sleep.

When one may be made, what may be believed of it, and that it is saved under the
machine's epoch (design.md §3.7, §5). What follows when it cannot be is the shell's.
"""

from __future__ import annotations

from actors.surroundings import Surroundings
from cfmessenger.chat.machine import Machine
from cfmessenger.ids import is_room

LIVE_MIRROR_EVERY_S = 5.0
SOON_MS = 50
"""An alarm that is due within this is waited for before a room moves."""

COMPLETE_AFTER_S = 5.0
"""So long after a crash gateways that hold sockets here may still be on their way."""


def at_rest(reason: str, confirmed: bool, alarm_at: int | None, now_ms: int) -> bool:
    """Nothing is unconfirmed and, if it moves, no alarm is due at once: silent sockets
    do not follow it to hear what that would tell them."""
    if reason == "moved" and alarm_at is not None:
        return confirmed and alarm_at > now_ms + SOON_MS
    return confirmed


def believable(reason: str, crashed: bool, lived_s: float) -> bool:
    """Whether the roster may be believed at the wake. Soon after a crash not all
    gateways are back, and whoever comes later must not seem to join. Who was idle for
    long enough to sleep has them all."""
    return reason == "idle" or not crashed or lived_s >= COMPLETE_AFTER_S


class Mirrors:
    """One for each activation. `save_…` raise `Fenced` or `Unavailable`, and whatever a
    machine raises."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self._name = name
        self._around = around
        self._live_at = around.loop.time()  # of the last live mirror

    def due(self, machine: Machine, now_s: float) -> bool:
        """Receipts changed, and the last live mirror is 5 s old (design.md §5)."""
        rested = now_s - self._live_at >= LIVE_MIRROR_EVERY_S
        return rested and machine.receipts_changed

    async def save_live(self, machine: Machine, now_s: float, lineage: str) -> None:
        """Save what has changed while the object lives on."""
        self._live_at = now_s
        machine.receipts_changed = False
        data = machine.snapshot()
        await self._around.log.save(
            self._name, machine.epoch, data, final=False, lineage=lineage
        )

    async def save_last(self, machine: Machine, final: bool, lineage: str) -> None:
        """Save what the next life begins with. `final`: its roster may be believed."""
        data = machine.snapshot()
        self._around.reached("before_mirror")
        # A room that nobody is in and nothing was said in is not worth a mirror.
        empty = is_room(self._name) and not machine.seq and not machine.sockets
        await self._around.log.save(
            self._name, machine.epoch, data, final=final, empty=empty, lineage=lineage
        )
        self._around.reached("after_mirror")
