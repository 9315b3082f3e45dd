"""A slow machine, on purpose, for whoever has this folder in PYTHONPATH.

What anybody says in the room `SLOW_ROOM` keeps the loop of its process for `SLOW_MS`
milliseconds: waiting, as for a slow disk, or computing if `SLOW_COMPUTES` is set, which
takes a core from everybody else. Only in Ray's workers, where rooms live.
"""

import os
import sys
import time

if "default_worker.py" in " ".join(sys.orig_argv) and "SLOW_ROOM" in os.environ:
    from actors.activation import Activation
    from cfmessenger.link import messages as link

    ROOM, SECONDS = os.environ["SLOW_ROOM"], int(os.environ["SLOW_MS"]) / 1000
    COMPUTES = "SLOW_COMPUTES" in os.environ
    receive = Activation.receive

    def slowly(self, peer, message):
        if self.name == ROOM and isinstance(message, link.Inputs):
            end = time.perf_counter() + SECONDS
            if not COMPUTES:
                time.sleep(SECONDS)
            while time.perf_counter() < end:
                pass
        receive(self, peer, message)

    Activation.receive = slowly
