"""Confirmed steps become bytes: one `Output` for each attached gateway.

Here an event is framed once for everyone, consecutive broadcasts become one blob, and
what belongs to single sockets goes to their gateway alone. Order is kept per gateway;
the number covered travels in the same frame as what it covers, so a link that breaks
never splits the two (link.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec

from actors.gates import Step
from cfmessenger.chat import effects as fx
from cfmessenger.ids import gateway_of
from cfmessenger.link import messages as link

MAX_KEPT = 1000
"""Items that wait for one gateway on its way back."""

MAX_ROUTES = 1000
"""Objects for which a gateway that can notify them is remembered."""


class Recipient(Protocol):
    """A gateway's end of a link."""

    gateway: str

    def send(self, message: link.ToGateway) -> None: ...


class Seat:
    """A gateway's place at an object: how far its inputs are taken and covered."""

    __slots__ = (
        "covered",
        "items",
        "peer",
        "replay",
        "seated",
        "told",
        "turn",
    )

    def __init__(
        self, peer: Recipient, covered: int, replay: int, turn: int = 0
    ) -> None:
        self.peer = peer
        self.turn = turn  # the gateway's number of this attach
        self.covered = covered  # the last input whose effects were released
        self.told = covered  # what of that was sent to the gateway
        self.replay = replay  # inputs up to here were sent before this attach too
        self.seated = False  # from its attach's release on: it gets broadcasts
        self.items: list[link.Item] = []  # for its next `Output`


class Seating(msgspec.Struct, frozen=True, gc=False):
    """Internal effect: this seat gets what it missed, and broadcasts from here on.

    It holds the seat, not the gateway's name. A gateway that attached again has another
    seat and repeats its uncovered inputs, so an older attach shows it nothing.
    `missed`: the gap's events as JSON; `seq`: the last event at the attach.
    """

    seat: Seat
    missed: tuple[bytes, ...]
    seq: int


MAX_OUTPUT = 4 * 2**20
"""Bytes after which a release goes on in the next frame, between two inputs."""

PERSON = 128
"""Bytes that somebody who is shown takes on the link, roughly."""

Elsewhere = Callable[[fx.Effect, str | None], None]
"""Takes the effects that no gateway is shown, and the gateway that caused each."""


class Release:
    """Sorts the effects of confirmed steps into what each gateway gets."""

    def __init__(self, seats: Mapping[str, Seat], elsewhere: Elsewhere) -> None:
        self._seats = seats
        self._elsewhere = elsewhere
        self.shown = 0  # the last durable event released; set by the shell at a load
        # Gateways that are called back to an object that woke, and what passes that no
        # gap will bring them: from `call` until each is seated or `call` replaces it.
        self._called: dict[str, list[link.Item]] = {}
        self._routes: dict[str, str] = {}  # target → gateway, the latest MAX_ROUTES
        self._run: list[bytes] = []  # consecutive broadcasts, framed; until `_end_run`
        self._run_seq = 0  # the last durable event in `_run`; 0: they are ephemeral
        self._bytes = 0  # framed since the last `_send_off`
        self._again: str | None = None  # while a step is shown: see `_comes_again`

    def run(self, name: str, epoch: int, steps: list[Step[Seat]]) -> None:
        """Show these steps: one `Output` to each seat, and more beyond `MAX_OUTPUT`."""
        kinds = _KINDS
        for step in steps:
            first = step.effects[0] if step.effects else None
            attached = first.seat if type(first) is Seating else None
            self._again = self._comes_again(step.origin or attached)
            for effect in step.effects:
                handle = kinds.get(type(effect))
                if handle is None:
                    origin = step.origin
                    self._elsewhere(effect, origin.peer.gateway if origin else None)
                else:
                    handle(self, effect, step)
            if step.origin is not None:
                step.origin.covered = step.n
            if self._bytes > MAX_OUTPUT:
                self._send_off(name, epoch)
        self._send_off(name, epoch)

    def _send_off(self, name: str, epoch: int) -> None:
        self._end_run()
        self._bytes = 0
        for seat in self._seats.values():
            if seat.items or seat.covered != seat.told:
                output = link.Output(name, epoch, seat.covered, seat.items, seat.turn)
                seat.told = seat.covered
                seat.items = []
                seat.peer.send(output)

    def call(self, gateways: Collection[str]) -> None:
        """From now on keep for these gateways what no gap will bring them, until they
        are seated. Whom the last call named and this one does not is given up."""
        self._called = {gateway: [] for gateway in gateways}

    def route(self, target: str, gateway: str) -> None:
        """Notify this object by this gateway, from which a question of it came."""
        self._routes.pop(target, None)
        self._routes[target] = gateway
        if len(self._routes) > MAX_ROUTES:
            del self._routes[next(iter(self._routes))]

    def _comes_again(self, origin: Seat | None) -> str | None:
        """The gateway of a seat that is gone or replaced: it repeats this input, so it
        is shown nothing now. None for a seat that still holds."""
        if origin is None or self._seats.get(origin.peer.gateway) is origin:
            return None
        return origin.peer.gateway

    def _end_run(self) -> None:
        if self._run:
            run = self._run
            blob = run[0] if len(run) == 1 else b"".join(run)
            self._to_all(link.Fanout(blob, self._run_seq, None))
            self._run, self._run_seq = [], 0

    def _to_all(self, item: link.Fanout | link.Roll) -> None:
        for seat in self._seats.values():
            if seat.seated:
                seat.items.append(item)
        if self._called and not (type(item) is link.Fanout and item.seq):
            for gateway in self._called:
                self._keep(gateway, item)

    def _keep(self, gateway: str, item: link.Item) -> None:
        kept = self._called.get(gateway)
        if kept is not None and len(kept) < MAX_KEPT:
            kept.append(item)

    def _to(self, conn: str, item: link.Item) -> None:
        self._end_run()
        gateway = gateway_of(conn)
        seat = self._seats.get(gateway)
        # A repeated input is answered again, but brings no attachment again.
        if seat is not None and (gateway != self._again or type(item) is link.Kept):
            seat.items.append(item)
        elif seat is None and gateway != self._again:
            self._keep(gateway, item)

    def _append(self, effect: fx.Append, step: Step[Seat]) -> None:
        if effect.shown:
            self.shown = effect.seq
            self._to_run(link.text_frame(effect.event), effect.seq)

    def _broadcast(self, effect: fx.Broadcast, step: Step[Seat]) -> None:
        blob = link.text_frame(effect.frame)
        if effect.but_user is None:
            self._to_run(blob, 0)
            return
        self._bytes += len(blob)
        self._end_run()
        self._to_all(link.Fanout(blob, 0, effect.but_user))

    def _to_run(self, blob: bytes, seq: int) -> None:
        self._bytes += len(blob)
        if bool(seq) != bool(self._run_seq):
            self._end_run()  # a gap brings only the durable ones
        self._run.append(blob)
        self._run_seq = seq

    def _send(self, effect: fx.Send, step: Step[Seat]) -> None:
        blob = link.text_frame(effect.frame)
        self._bytes += len(blob)
        if len(effect.conns) == 1:
            self._to(effect.conns[0], link.ToSockets(effect.conns, blob, effect.fault))
            return
        for conns in _by_gateway(effect.conns):
            self._to(conns[0], link.ToSockets(conns, blob, effect.fault))

    def _roll(self, effect: fx.Roll, step: Step[Seat]) -> None:
        frame, start, end, users = effect.frame, effect.start, effect.end, effect.users
        self._bytes += len(frame)
        self._end_run()
        if effect.conns is None:
            self._to_all(link.Roll(frame, start, end, users, None, effect.but))
            return
        for conns in _by_gateway(effect.conns):
            self._to(conns[0], link.Roll(frame, start, end, users, conns, ()))

    def _subscribe(self, effect: fx.Subscribe, step: Step[Seat]) -> None:
        for conns in _by_gateway(effect.conns):
            self._to(conns[0], link.Subscribed(conns, self.shown))

    def _repeat(self, effect: fx.Repeat, step: Step[Seat]) -> None:
        seat = step.origin
        if seat is not None and step.n <= seat.replay and _had(effect, step.seen):
            return  # the gateway repeats it, and the socket has had its echo
        if effect.frame is None:
            self._to(effect.conn, link.Recall(effect.conn, effect.seq))
        else:
            blob = link.text_frame(effect.frame)
            self._to(
                effect.conn, link.ToSockets((effect.conn,), blob, False, effect.seq)
            )

    def _behind(self, effect: fx.Behind, step: Step[Seat]) -> None:
        self._to(effect.conn, link.CatchUp(effect.conn, effect.since, effect.seq))

    def _close(self, effect: fx.Close, step: Step[Seat]) -> None:
        self._to(effect.conn, link.Closing(effect.conn, effect.code, effect.reason))

    def _attach(self, effect: fx.KeepAttachment, step: Step[Seat]) -> None:
        self._to(effect.attachment.conn, link.Kept(effect.attachment))

    def _notify(self, effect: fx.Notify, step: Step[Seat]) -> None:
        """Any gateway can forward; the one that brought the cause is at hand."""
        self._end_run()
        seat = step.origin
        if seat is None or self._again is not None:
            seat = self._seats.get(self._routes.get(effect.target, ""))
            seat = seat or next(iter(self._seats.values()), None)
        if seat is not None:
            seat.items.append(link.Forward(effect.target, effect.payload))

    def _tell(self, effect: fx.Tell, step: Step[Seat]) -> None:
        seat = self._seats.get(effect.gateway)
        # Whoever attaches says what it wants behind that, and is told all of it.
        if seat is not None and seat.seated:
            self._end_run()
            self._bytes += PERSON * len(effect.news.people)
            seat.items.append(link.People(effect.news))

    def _meet(self, effect: fx.Meet, step: Step[Seat]) -> None:
        for conns in _by_gateway(effect.conns):
            self._to(conns[0], link.Met(conns, effect.user_ids))

    def _seat(self, effect: Seating, step: Step[Seat]) -> None:
        self._end_run()
        seat = effect.seat
        if self._seats.get(seat.peer.gateway) is not seat:
            return
        seat.seated = True
        if effect.missed:
            blob = b"".join(map(link.text_frame, effect.missed))
            seat.items.append(link.Fanout(blob, effect.seq, None))
        seat.items += self._called.pop(seat.peer.gateway, ())


# One table for all objects: bound methods would take a kilobyte in each.
_KINDS: dict[type, Callable[[Release, Any, Step[Seat]], None]] = {
    fx.Append: Release._append,
    fx.Broadcast: Release._broadcast,
    fx.Roll: Release._roll,
    fx.Send: Release._send,
    fx.Subscribe: Release._subscribe,
    fx.Repeat: Release._repeat,
    fx.Behind: Release._behind,
    fx.Close: Release._close,
    fx.KeepAttachment: Release._attach,
    fx.Notify: Release._notify,
    fx.Tell: Release._tell,
    fx.Meet: Release._meet,
    Seating: Release._seat,
}


def _had(repeat: fx.Repeat, seen: int | None) -> bool:
    """Whether the socket was shown this event already, though not as an echo.

    If it is after `seen`, in a gap or in a page of the log. If the socket had seen
    nothing (None), in the buffer, where an event is for as long as it has a frame.
    """
    return repeat.frame is not None if seen is None else repeat.seq > seen


def _by_gateway(conns: tuple[str, ...]) -> list[tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for conn in conns:
        groups.setdefault(gateway_of(conn), []).append(conn)
    return [tuple(group) for group in groups.values()]
