"""Memory that objects no longer need goes back to the operating system.

A pool that hosted thousands keeps what they occupied as free lists of its allocator,
unless it is told otherwise: the next thousand may well live in another process.
"""

from __future__ import annotations

import ctypes
import gc

WORTH_IT = 64
"""So many objects must have left before their memory is given back."""


class Slack:
    """Watches how many objects there are, and gives back when half of them left."""

    def __init__(self) -> None:
        self._peak = 0  # the most objects since memory was last given back
        # glibc's; another C library gives back by itself or not at all.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def look(self, objects: int) -> bool:
        """Tell how many there are now; True if memory was given back (some ms)."""
        left = self._peak - objects
        if left < WORTH_IT or left < objects:
            self._peak = max(self._peak, objects)
            return False
        self._peak = objects
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        return True
