"""What the objects of one process share: log, clock, kinds, committer, their ending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors.committer import Committer
from actors.kinds import Kinds
from actors.tail import Tails
from actors.turn import Turn
from cfmessenger.clock import Clock
from cfmessenger.storage import keys
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.log import Log
from cfmessenger.storage.reserve import Reserve

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.ownership import Lived


class Surroundings:
    """Made once per process, on its loop."""

    def __init__(
        self,
        log: Log,
        derived: DerivedKeys,
        kinds: Kinds,
        clock: Clock,
        loads: Log | None = None,
        tails: Tails | None = None,
    ) -> None:
        self.log = log
        # Whoever wakes reads through this: a slow load must not cut off a commit.
        self.loads = loads or log
        self.tails = tails or Tails(0.0)
        self.derived = derived
        self.kinds = kinds
        self.clock = clock
        self.reserve = Reserve()
        self.loop = asyncio.get_running_loop()
        self.turn = Turn(self.loop)
        self.committer = Committer(log, self.turn, self.reserve)

    def follow(self, name: str, lineage: str) -> None:
        """Appends of this object go to who answered when its epoch was taken."""
        key = keys.log(name)
        self.log.follow(key, lineage, self.loads.address_of(key))

    def trusted(self, activation: Lived) -> bool:
        """Storage was read so lately that nobody can have taken this object over."""
        return True

    def reached(self, point: str) -> None:
        """A point at which tests may let the process die (`CFM_CRASH_AT`)."""

    def gone(self, activation: Activation, reason: str) -> None:
        """An activation has ended, for one of link.Goodbye's reasons."""
        raise NotImplementedError
