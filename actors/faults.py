"""What is done about a machine that raises, which is our bug and nobody else's trouble.

The input at which it failed is answered and covered, so that it never comes again; the
object begins anew. A fault that comes again and again (with the mirror, say, or at each
attach) slows the object down and then ends it, without a mirror, until somebody speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cfmessenger.backoff import doubled
from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import BLANK, Life, Machine
from cfmessenger.errors import CloseCode, ProtocolError
from cfmessenger.link import messages as link
from cfmessenger.wire.decoding import frame_id
from cfmessenger.wire.protocol import error_frame

FAULTS = 8
"""So many, with less than `CALM_S` between them, are too many."""

CALM_S = 60.0
PAUSE_S, PAUSE_CAP_S = 0.05, 1.0


class Faults:
    """The faults of one object, which outlast its resets. Seconds are the loop's."""

    def __init__(self) -> None:
        self.recovering = False  # from `count` until the object has begun anew
        self._row = 0  # up to the last one, with less than CALM_S between them
        self._last_at = float("-inf")  # loop time of the last one

    def count(self, now: float) -> None:
        """Count one more."""
        self._row = self._row + 1 if now - self._last_at < CALM_S else 1
        self._last_at = now
        self.recovering = True

    @property
    def too_many(self) -> bool:
        """To begin anew would be in vain."""
        return self._row >= FAULTS

    @property
    def pause_s(self) -> float:
        """How long to wait before beginning anew; the first time not at all."""
        if self._row < 2:
            return 0.0
        return doubled(PAUSE_S, PAUSE_CAP_S, self._row - 2)


def answer(entry: link.Input) -> Sequence[fx.Effect]:
    """What the sender of an input is told if the machine failed at it: INTERNAL_ERROR
    for a frame, 1011 for a socket that opens, nothing otherwise (design.md §3.5)."""
    if isinstance(entry, link.Said):
        error = ProtocolError("INTERNAL_ERROR", id=frame_id(entry.data))
        return [fx.Send((entry.conn,), error_frame(error))]
    if isinstance(entry, link.Opened):
        return [_close(entry.attachment.conn)]
    return []


def answer_attach(
    fresh: Callable[[Life], Machine],
    now: int,
    gateway: str,
    sockets: list[fx.Attachment],
) -> Sequence[fx.Effect]:
    """Which sockets are closed when an attach failed: each one that makes a fresh
    machine fail when it comes alone; perhaps none."""
    guilty = []
    for each in sockets:
        try:
            fresh(BLANK).attach(now, gateway, [each])
        except Exception:
            guilty.append(_close(each.conn))
    return guilty


def _close(conn: str) -> fx.Close:
    return fx.Close(conn, CloseCode.INTERNAL_ERROR, "internal error")
