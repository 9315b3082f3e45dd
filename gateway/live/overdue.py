"""What an object has not covered in time: looked for in the log, then answered.

wire.md §5 promises an answer "at the latest after 5 s", whatever has become of the
object. Frames are handed on to be looked for (`late`); what the look finds decides what
their sockets are told (`settle`). Notifications fail, and nobody asks for the frames of
who has left. Sockets that come and go stay pending: the object must know them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

from cfmessenger.errors import CloseCode, Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.audience import Phase
from cfmessenger.link.half import Half
from cfmessenger.link.uncovered import Echo
from gateway.live.late import Found, Late
from gateway.live.life import Life
from gateway.live.outlet import Outlet, answer, give_back, safely

EXPIRE_AFTER_S = 4.4
"""An input that is uncovered for so long is looked for in the log (`late`). 0.25 s
until somebody notices and 0.25 s for the look stay below the 5 s of wire.md §5."""


class Overdue:
    """A stub's answer to what its object does not answer.

    `look(overdue, late)` is called for what was not covered in time: it must find out
    whether the log has it and call `settle`.
    """

    def __init__(
        self,
        half: Half[Outlet],
        life: Life,
        look: Callable[[Overdue, list[Late]], None],
    ) -> None:
        self.name = half.name
        self._half = half
        self._life = life
        self._look = look

    def expire(self, now: float) -> None:
        """Find out what became of what was not covered in time; `now` is loop time."""
        audience = self._half.audience
        expired = self._half.pending.expire(now, EXPIRE_AFTER_S, audience)
        for pending in expired.lost:
            give_back(self._half, pending)
            if pending.waiter is not None:
                answer(pending, Unavailable())
        late = []
        for pending in expired.late:
            said = cast(link.Said, pending.input)
            outlet = audience.get(said.conn)
            assert outlet is not None, "it is present"
            late.append(Late(said, outlet.user_id, pending.shown))
        if late:
            self._look(self, late)

    def settle(self, late: Collection[int], found: Mapping[int, Found] | None) -> None:
        """Answer late inputs, by number; those `found` have become events.

        STORAGE_UNAVAILABLE for the others; whether they still appear is open, once at
        most. None: the log does not say; what it had before is still to come.
        """
        half, settled, behind = self._half, set(late), False
        for pending in half.pending:
            if pending.n not in settled:
                continue  # not asked about
            if found is not None:
                said, event = cast(link.Said, pending.input), found.get(pending.n)
                pending.logged = event is not None and self._to_come(said, event)
                behind |= pending.logged and said.conn in half.audience.members
            if pending.logged:
                settled.discard(pending.n)
        for pending in half.pending.take(settled):
            give_back(half, pending)
            # The rest was covered meanwhile, or is to be.
            said = cast(link.Said, pending.input)
            outlet = half.audience.get(said.conn)
            if outlet is None:
                continue
            event = found.get(said.n) if found is not None else None
            if event is None:
                safely(outlet, outlet.refused, said.data)
            else:
                self._show(outlet, said, event)
        if behind:
            self._life.turn_to_the_log()

    def _to_come(self, said: link.Said, event: Found) -> bool:
        """Whether its socket has still to come to that event, by the log: on its way
        in, or because all here are behind. Until then it stays pending and is looked
        for again, since the log may lose the event first."""
        audience = self._half.audience
        if event.seq <= (said.seen or 0):
            return False  # a repeat
        if audience.phase(said.conn) is Phase.PAGING:
            return True
        return said.conn in audience.members and event.seq > audience.seq

    def _show(self, outlet: Outlet, said: link.Said, event: Found) -> None:
        """What a frame has become is shown to its socket."""
        audience = self._half.audience
        if said.seen is not None and event.seq <= said.seen:
            safely(outlet, outlet.told, event.blob, False)  # a repeat
            if self._life.link is not None:
                self._half.pending.answered(said.n, Echo(said.conn, event.seq))
        elif said.conn not in audience.members and event.seq > (
            audience.seen_by(said.conn) or 0
        ):
            # Still not let in, and its history may begin after that event. Whoever
            # comes again finds it there, or says it again and has the echo.
            away = "the room cannot be reached"
            safely(outlet, outlet.end, CloseCode.TRY_AGAIN_LATER, away)
