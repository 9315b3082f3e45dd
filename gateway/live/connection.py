"""One client's WebSocket: what it says goes to its stub, what it is told goes out.

Owns what belongs to a socket and not to a room: pings, size, abuse (wire.md §6, 4508),
and how it ends. Knows no actor; of its
connection it is the `Listener`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cfmessenger.background import Background
from cfmessenger.chat.effects import Attachment, newest
from cfmessenger.errors import CloseCode, ProtocolError, Unavailable
from cfmessenger.ids import PRESENCE
from cfmessenger.link.messages import text_frame
from cfmessenger.wire import protocol
from cfmessenger.wire.decoding import MAX_FRAME_BYTES, frame_id
from gateway import metrics
from gateway.live import paging
from gateway.live.meter import ABUSE, Meter
from gateway.live.stub import NOW, Stub
from gateway.server.websocket_protocol import WebSocket

if TYPE_CHECKING:
    from gateway.live.connections import Connections
    from gateway.live.logins import Login

logger = logging.getLogger("cfmessenger.socket")

FAULTS, FAULTS_S = 20, 60.0
"""So many answers to abuse in so many seconds; one more is 4508 (wire.md §6)."""
BACKLOG_S = 0.1
"""For so long after a pause in which nothing was confirmed in time, a client's words
come from its TCP buffers. They count from when reading stopped, for they too are to be
answered in time (wire.md §5)."""
SILENCE_S = 90.0
"""Without a frame of any kind: 4400 (wire.md §6)."""


class Connection:
    """A socket in a room or on the presence registry; an `Outlet` of its stubs.

    So many attributes, and no part of its own for some of them: a gateway holds tens of
    thousands of these, nearly all silent, and each object more costs memory for all.
    """

    __slots__ = (
        "_faults",
        "_held",
        "_held_at",
        "_held_shown",
        "_home",
        "_meter",
        "_slowed",
        "_background",
        "_backlog_until",
        "address",
        "attachment",
        "conn",
        "ended",
        "full",
        "heard_at",
        "login",
        "room",
        "uncovered",
        "user_id",
        "wire",
        "write",
    )

    def __init__(
        self,
        home: Connections,
        wire: WebSocket,
        login: Login,
        room: Stub,
        attachment: Attachment,
        address: str,
    ) -> None:
        self.conn = attachment.conn  # until `rename`
        self.user_id = attachment.user_id
        self.attachment = attachment  # with the newest words and status known
        self.login = login
        self.room = room  # the stub that its frames go to
        self.wire = wire
        self.write: Callable[[bytes], None] = wire.write
        self.heard_at = home.loop.time()  # the last text frame, ping or pong
        self.ended: int | None = None  # from its end on: the close code
        self.address = address  # that it counts for
        self.uncovered = 0  # what it owes for its frames, as `full`: see `Payer`
        self.full = False
        self._meter = Meter(self.heard_at)
        # While it is not read: the frames that had come with the last bytes, and when
        # (loop time), and what it had been shown by then. None: it is read.
        self._held: deque[bytes] | None = None
        self._held_at = 0.0
        # Until then (loop time) what is read had been waiting to be, since `_held_at`.
        self._backlog_until = 0.0
        self._held_shown: int | None = None
        self._slowed: asyncio.TimerHandle | None = None  # while it is too fast
        self._home = home
        self._faults: deque[float] | None = None  # when, the latest; None: none yet
        # Of what needs the log, while it runs; None: most sockets never need it.
        self._background: Background | None = None

    @property
    def number(self) -> int:
        """The connection's number in this gateway, which survives a rename."""
        return int(self.conn.rpartition(".")[2])

    def rename(self, conn: str) -> None:
        """The gateway has a new name, and so have its connections."""
        self.conn = conn
        self.attachment = replace(self.attachment, conn=conn)

    def start(
        self,
        since: int | None,
        era: int | None = None,
        friends: Collection[str] | None = None,
    ) -> None:
        """Enter, and take over the wire. `friends`: of a presence socket, with whom its
        user has direct rooms."""
        self.room.open(self, self.attachment, since, greeted=False, era=era)
        if friends is not None:
            self._home.stubs.watching.enter(self, friends)
        self.wire.take_over(self)

    # From the client.

    def on_text(self, data: bytes) -> None:
        """A message: to the stub, unless the gateway answers it or has to wait."""
        self.heard_at = now = self._home.loop.time()
        if self._held is None and now >= self._backlog_until:
            self._take_frame(data, now)
        elif self._held is None:
            self._take_frame(data, self._held_at, self._held_shown)
        elif self.ended is None:
            self._held.append(data)

    def _take_frame(self, data: bytes, came: float, shown: int | None = NOW) -> None:
        if self._too_fast():
            return
        if len(data) > MAX_FRAME_BYTES:
            error = ProtocolError("TOO_LARGE", id=frame_id(data))
            self.told(text_frame(protocol.error_frame(error)), fault=True)
            return
        ours = protocol.for_gateway(data, self.room.name == PRESENCE)
        if isinstance(ours, protocol.Ping):
            now = self._home.clock.now()
            self.answer(protocol.encode(protocol.Pong(now, ours.t)))
            return
        self.login.used = True
        if isinstance(ours, protocol.Watch | protocol.Unwatch):
            self._home.stubs.watching.take(self, ours)
            return
        if ours is not None:
            self._home.people.want(self, ours, came)
        if self._home.reserve.full and self._refuse(data, protocol.Durable):
            return
        # To a room a status says nothing, but people there look: it is to be awake.
        if ours is None or self.room.name != PRESENCE:
            self.room.say(self, data, came, shown)
        if self.full:
            self._hold(came)

    def _too_fast(self) -> bool:
        """Count a frame; True if the socket was closed for it."""
        pause = self._meter.count(self._home.loop.time())
        if not pause:
            return False
        if pause == ABUSE:
            self.end(CloseCode.ABUSE, "too many frames")
            return True
        if self._slowed is None and self.ended is None:
            self._slowed = self._home.loop.call_later(pause, self._slow_enough)
            self._hold(self.heard_at)
        return False

    def _hold(self, came: float) -> None:
        """Read nothing more for now: TCP tells the client to wait."""
        if self._held is None and self.ended is None:
            if came != self._held_at:
                self._held_at, self._held_shown = came, self.room.seen_by(self)
            self._held = deque()
            self.wire.pause()

    def _slow_enough(self) -> None:
        self._slowed = None
        self.go_on()

    def go_on(self) -> None:
        """Say what was held, then read again: there is room for it now."""
        try:
            while self._held and not (self.full or self._slowed):
                data = self._held.popleft()
                self._take_frame(data, self._held_at, self._held_shown)
        except Exception:
            self.failed()
        if self._held is not None and not (self.full or self._slowed):
            self._held = None
            self.wire.resume()

    def on_binary(self) -> None:
        """Only text is spoken here."""
        self.end(CloseCode.BINARY_FRAME, "text frames only")

    def on_alive(self) -> None:
        """A ping or pong: no silence, and a frame like any other."""
        self.heard_at = self._home.loop.time()
        self._too_fast()

    def on_slow(self) -> None:
        """It reads too slowly."""
        self.end(CloseCode.TRY_AGAIN_LATER, "slow consumer")

    def on_lost(self, code: int) -> None:
        """It has ended, and not by us."""
        self._leave(code)

    # To the client.

    def answer(self, frame: bytes) -> None:
        """Write one frame, as long as there is a socket."""
        if self.ended is None:
            self.write(text_frame(frame))

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Write one finished WebSocket frame, which is in pieces."""
        self.wire.write_all(pieces)

    def told(self, blob: bytes, fault: bool) -> None:
        """Write finished WebSocket frames.

        `fault`: they answer an abuse; the 21st within a minute ends the socket with
        4508 (wire.md §6).
        """
        self.write(blob)
        if not fault:
            return
        now = self._home.loop.time()
        faults = self._faults
        if faults is None:
            faults = self._faults = deque(maxlen=FAULTS)
        if len(faults) == FAULTS and now - faults[0] < FAULTS_S:
            self.end(CloseCode.ABUSE, "too many bad frames")
            return
        faults.append(now)

    def refused(self, data: bytes) -> None:
        """A frame was not confirmed in time: answer STORAGE_UNAVAILABLE (wire.md §5).

        Only to a message or a status: of the others nobody expects an answer.
        """
        self._refuse(data, protocol.Durable, protocol.UpdatePresence)

    def _refuse(self, data: bytes, *kinds: type) -> bool:
        """Whether the frame is one of these, and so was answered."""
        if self._held is not None:
            self._backlog_until = self._home.loop.time() + BACKLOG_S
        frame: protocol.RoomFrame | protocol.PresenceFrame | None
        frame = protocol.for_gateway(data, registry=True)  # as statuses are sent on
        try:
            frame = frame or protocol.decode_room_frame(data)
        except ProtocolError:
            return False
        if not isinstance(frame, kinds):
            return False
        told = (frame.id or None) if isinstance(frame, protocol.Durable) else None
        error = ProtocolError("STORAGE_UNAVAILABLE", id=told)
        self.answer(protocol.error_frame(error))
        return True

    def end(self, code: int, reason: str) -> None:
        """Close with a code of wire.md §6; nothing, if it has ended already."""
        if self.ended is None:
            self.wire.close(code, reason)
            self._leave(code)

    def failed(self) -> None:
        """An exception that we did not expect: it is the end of this socket alone."""
        logger.exception("a socket failed")
        self.end(CloseCode.INTERNAL_ERROR, "internal error")

    def _leave(self, code: int) -> None:
        # At once: a transport that is closed must not be in anybody's fan-out.
        if self.ended is None:
            self.ended = code
            self._home.leave(self)
            metrics.SOCKETS_CLOSED.labels(str(int(code))).inc()
        self._held = None
        if self._slowed is not None:
            self._slowed.cancel()
            self._slowed = None
        if self._background is not None:
            self._background.cancel()

    def beat(self, now: float) -> None:
        """Ping, or close with 4400 a client that was silent too long.

        `now` is loop time.
        """
        if now - self.heard_at > SILENCE_S:
            self.end(CloseCode.HEARTBEAT_TIMEOUT, "no sign of life")
        else:
            self.wire.ping()

    # What only the log still has.

    def catch_up(self, stub: Stub, since: int, seq: int) -> None:
        """Page `(since, seq]` from the log to the client, then enter again."""
        self._spawn(paging.catch_up(self, stub, self._home.log, since, seq))

    # What its user is called and shown as.

    def attached(self, stub: Stub, attachment: Attachment) -> None:
        """An object has told its attachment.

        A room too may know of a newer choice: the registry made it, and died before it
        had written it or told everybody. Then the registry is to hear of it.
        """
        known = self.attachment
        self.learn(attachment, stub)
        if self.attachment != known and stub.name != PRESENCE:
            self._home.stubs.wake(PRESENCE)

    def learn(self, told: Attachment, source: Stub | None = None) -> None:
        """Keep newer words or a newer status; its objects but `source` hear of them."""
        known = newest(self.attachment, told)
        if known != self.attachment:
            self.attachment = known
            room, registry = self.room, self._home.stubs.registry
            for stub in (room,) if room is registry else (room, registry):
                if stub is not source:
                    stub.change(self, known)

    def recall(self, stub: Stub, seq: int) -> None:
        """Send event `seq`, which has left the buffer: the echo of a repeat."""
        self._spawn(paging.recall(self, stub, self._home.log, seq))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._background is None:
            self._background = Background()
        self._background.begin(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Unavailable:
            # It reconnects with the same `since` and loses nothing.
            self.end(CloseCode.TRY_AGAIN_LATER, "storage is away")
        except Exception:
            self.failed()
