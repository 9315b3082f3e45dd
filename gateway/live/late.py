"""Inputs that were not covered in time: were they accepted all the same?

STORAGE_UNAVAILABLE says "not confirmed, shown to nobody so far" (wire.md §5). But an
object that is away, hangs or waits for storage covers nothing, even if an input is an
event in the log already. Others may have been shown it: by another gateway, in the gap
after an attach, or in a page. So the log is asked before anybody is refused. That is
rare, and takes at most `LOOK_S`: what is not found by then is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from cfmessenger.chat.compose import compose, fingerprint
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.ids import gateway_of, process_of, room_id_of
from cfmessenger.link.messages import Said, text_frame
from cfmessenger.storage.log import Log
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event, UnknownEvent, read_event
from cfmessenger.wire.protocol import DurableFrame

logger = logging.getLogger("cfmessenger.late")

LOOK_S = 0.25
"""For a look, with the wait for those before it; after that nothing was found."""
LOOK_BACK = 1_000
"""How many events are looked at: as many as a room remembers ids of."""
REPEATS = 100
"""The look begins so many events before the last that the socket had been shown as its
frame came, which may repeat one of them."""
LOOKS = 20
"""Looks at once in a gateway."""


class Late(NamedTuple):
    """A frame that was not covered in time, whose it is, and the last event that its
    socket had been `shown` when it came; None: none."""

    said: Said
    user_id: str
    shown: int | None


class Found(NamedTuple):
    """The event that a frame has become: its seq, and its finished WebSocket frame."""

    seq: int
    blob: bytes


class Settling(Protocol):
    """A stub, as far as it is needed here."""

    name: str

    def settle(
        self, late: Collection[int], found: Mapping[int, Found] | None
    ) -> None: ...


class Looks:
    """`look` settles late inputs with a stub; it never raises."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._at_once = asyncio.Semaphore(LOOKS)

    async def look(self, stub: Settling, late: Sequence[Late]) -> None:
        """Tell the stub which of them are in the log, by their numbers; None: the log
        does not say."""
        found: Mapping[int, Found] | None = None
        try:
            async with asyncio.timeout(LOOK_S), self._at_once:
                found = await self._find(stub.name, late)
        except (Unavailable, TimeoutError):
            logger.info("%s: storage does not tell what became of inputs", stub.name)
        except Exception:
            logger.exception("%s: late inputs cannot be looked up", stub.name)
        stub.settle([each.said.n for each in late], found)

    async def _find(self, name: str, late: Sequence[Late]) -> dict[int, Found]:
        room_id = room_id_of(name)
        frames = [(each, _durable(each.said.data)) for each in late]
        said = [(each, frame) for each, frame in frames if frame is not None]
        if room_id == name or not said:
            return {}  # nothing else is in a log
        shown = [each.shown for each, _ in said]
        first = min((each for each in shown if each is not None), default=0)
        events = await self._events(name, None if None in shown else first)
        found = {}
        for each, frame in said:
            n, process = each.said.n, process_of(gateway_of(each.said.conn))
            event = events.get((each.user_id, frame.id or f"{process}.{n}"))
            if event is not None and _says(event[0], frame):
                known, data = event
                found[n] = Found(known.seq, text_frame(data))
        return found

    async def _events(
        self, name: str, shown: int | None
    ) -> dict[tuple[str, str], tuple[Event, bytes]]:
        """What came after `shown`, and a little before it, by sender and id."""
        if shown is None:
            entries = await self._log.newest(name, LOOK_BACK, None)
        else:
            entries = await self._log.after(name, max(0, shown - REPEATS), LOOK_BACK)
        events = {}
        for entry in entries:
            with contextlib.suppress(ValueError):  # damaged
                event, data = read_event(entry.seq, entry.event)
                if not isinstance(event, UnknownEvent):
                    events[event.sender_id, event.id] = event, data
        return events


def _durable(data: bytes) -> DurableFrame | None:
    try:
        frame = protocol.decode_room_frame(data)
    except ProtocolError:
        return None
    return frame if isinstance(frame, protocol.Durable) else None


def _says(event: Event, frame: DurableFrame) -> bool:
    """Whether it is that frame: under a used id the room keeps no other words."""
    same = compose(
        frame,
        event.id,
        event.room_id,
        event.sender_id,
        event.display_name,
        event.timestamp,
        event.seq,
    )
    return fingerprint(same) == fingerprint(event)
