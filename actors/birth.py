"""How an object comes to life, and again after each reset: epoch, load, calls.

It takes an epoch, loads the machine, finds out which of its gateways have died, and
calls those that have not come back (design.md §3.1, §3.8). What the shell does with
what is born is its business (activation.py).
"""

from __future__ import annotations

from typing import NamedTuple

from actors.healing import heal, remember
from actors.kinds import Kind
from actors.loading import NOTHING, SeenBeyond, beside, load, take
from actors.surroundings import Surroundings
from cfmessenger.chat.machine import Machine
from cfmessenger.errors import Unavailable
from cfmessenger.storage.log import Activated

CALLS = 6
"""Rounds of `call` after a load: five calls, and in the sixth what was kept for
gateways that did not come is dropped (design.md §3.8)."""


class Born(NamedTuple):
    """A loaded machine. `dead`: those of its gateways that were given up while it
    slept; `lost`: after a crash all that live, for nobody knows who held sockets."""

    machine: Machine
    dead: set[str]
    lost: set[str]


class Birth:
    """One for each activation, for all its lives. Times are the loop's, in seconds."""

    def __init__(self, name: str, kind: Kind, around: Surroundings) -> None:
        # When its epoch was asked for, and when it was here: until a look has begun
        # after that, the asking is what shows that nobody lives later.
        self.asked_at = self.taken_at = 0.0
        self.loaded_at = 0.0  # the last load
        # Who answered when its epoch was taken, or when a look has proved it since.
        self.lineage = ""
        self.tail = around.tails.of(name)  # survives resets, and `storage_failed`
        self.beyond = NOTHING  # what the next load is told; from a doubt until then
        self._calls_left = 0  # CALLS after a load
        self._name = name
        self._kind = kind
        self._around = around

    async def take(self) -> Activated:
        """Take an epoch. Raises `Fenced` or `Unavailable`."""
        loop = self._around.loop
        self.asked_at = loop.time()
        loads = self._around.loads
        found = await take(self._name, loads, self.beyond, self.tail.epoch)
        self.taken_at, self.lineage = loop.time(), found.lineage
        self.tail.took(found.epoch, found.last, found.previous_epoch)
        self._around.follow(self._name, found.lineage)
        return found

    async def load(self, found: Activated) -> Born:
        """Load what was found with the epoch. Raises `Fenced` or `Unavailable`."""
        around, name, log = self._around, self._name, self._around.loads
        beyond, self.beyond = self.beyond, NOTHING
        healed = beside(await heal(name, log, self.tail, found), beyond)
        loaded = await load(name, self._kind, log, around.clock, healed)
        machine = loaded.machine
        around.derived.damaged("healed", healed.again)
        lost_for_good = sum(high - low + 1 for low, high in loaded.lost)
        around.derived.damaged("lost", lost_for_good)
        around.derived.damaged("aside", loaded.aside)
        self.tail.lives(found.epoch, healed.found.seq, loaded.known)
        for row in loaded.lost:
            self.tail.told(*row)
        if healed.found is not found:
            machine.receipts_changed = True  # its last mirror may be lost, too
        await remember(name, log, around.tails, found, around.clock.now())
        dead = await self._dead(machine.gateways)
        lost = await around.derived.everyone() if machine.crashed else set()
        self.loaded_at, self._calls_left = around.loop.time(), CALLS
        return Born(machine, dead, lost)

    def apart(self, seen: SeenBeyond) -> bool:
        """It was certainly another activation that showed it. Epochs alone do not prove
        that: where storage has lost some, they are taken again."""
        first = self.tail.first_epoch
        if not seen.shown_in or not first:
            return False
        return seen.elsewhere or not first <= seen.shown_in <= seen.own_epoch

    async def _dead(self, gateways: set[str]) -> set[str]:
        try:
            return gateways - await self._around.derived.living(gateways)
        except Unavailable:
            return set()  # the next look will tell

    @property
    def calling(self) -> bool:
        """There are rounds of `call` left."""
        return self._calls_left > 0

    def call(self, absent: set[str]) -> bool:
        """One more round, at a load and then twice a second: a channel forgets.

        False: nobody is missing, or whoever is will not come.
        """
        self._calls_left -= 1
        if absent and self._calls_left:
            self._around.derived.call_gateways(absent, self._name)
            return True
        self._calls_left = 0
        return False

    def call_once(self, gateways: set[str]) -> None:
        """Call these too, but wait for none of them."""
        if gateways:
            self._around.derived.call_gateways(gateways, self._name)
