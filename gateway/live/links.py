"""The gateway's ends of links: one for each actor process it talks to.

A link finds out when its actor process is gone (the stream ends) or hung (pings that
this gateway sent, while its own loop ran, stay unanswered), and tells the stubs that
ride on it (design.md §3.10). What the messages mean is the stubs' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from typing import Protocol, cast

from cfmessenger.background import Background
from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link import messages as link
from cfmessenger.link.namespace import Address, Namespace
from cfmessenger.placement import Placement
from gateway import metrics

logger = logging.getLogger("cfmessenger.links")

CONNECT_TIMEOUT_S = 1.0
PING_EVERY_S = 1.0
HUNG_AFTER_PINGS = 3
TRIES, FIRST_PAUSE_S = 4, 0.05
MOST_MOVED = 10_000


class _Lost(Unavailable):
    """Nobody answers where that very actor is to be."""


class Rider(Protocol):
    """An object's stub, as a link sees it."""

    name: str

    def leaving(self) -> link.Inputs | None: ...
    def on_output(self, output: link.Output) -> None: ...
    def on_goodbye(self, goodbye: link.Goodbye) -> None: ...
    def on_lost(self, lost: Link) -> None: ...


class Link(asyncio.Protocol):
    """One stream to one actor process. `riders`: the attached stubs, by object.

    Stubs enter and leave by themselves; all are told when it is lost.
    """

    def __init__(self, address: Address, gateway: str) -> None:
        self.address = address
        self.riders: dict[str, Rider] = {}
        # Done with the Welcome; fails with `Unavailable` if it is lost before.
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False  # True from the end of the stream on
        self.unanswered = 0  # pings since anything was heard
        self.gateway = gateway  # the name it said hello with
        self._reader = link.gateway_reader()
        self._transport: asyncio.Transport | None = None  # None: not connected yet
        self._outgoing: list[bytes] = []  # until the `_flush` of this iteration
        self._laden: dict[str, Rider] = {}  # who have something for it: likewise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        hello = link.Hello(link.VERSION, self.address.key, self.gateway)
        self._transport.write(link.frame(hello))

    def data_received(self, data: bytes) -> None:
        self.unanswered = 0
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
        except link.BrokenLink as error:
            logger.warning("link to pid %d broken: %s", self.address.pid, error)
            self.abort()

    def _on_message(self, message: object) -> None:
        if isinstance(message, link.Output | link.Goodbye):
            rider = self.riders.get(message.object)
            if rider is not None:
                self._hand_to(rider, message)
        elif isinstance(message, link.Welcome):
            if not self.welcomed.done():
                self.welcomed.set_result(None)

    def _hand_to(self, rider: Rider, message: link.Output | link.Goodbye) -> None:
        try:
            if isinstance(message, link.Output):
                rider.on_output(message)
            else:
                metrics.GOODBYES.labels(message.reason).inc()
                rider.on_goodbye(message)
        except Exception:
            self._failed(rider)

    def _failed(self, rider: Rider) -> None:
        """Our bug in one object's stub. Raised further it would end the link, and with
        it every other object's: this one comes back, and they never notice."""
        logger.exception("%s failed", rider.name)
        self.riders.pop(rider.name, None)
        rider.on_lost(self)

    def send(self, message: link.ToActor) -> None:
        """Queue a message; all of one iteration of the loop leave in one write.

        On a lost link it goes nowhere. A link whose peer leaves more than
        `link.HIGH_WATER` bytes unread is ended.
        """
        self._flush_soon()
        self._outgoing.append(link.frame(message))

    def take_from(self, rider: Rider) -> None:
        """What is `leaving` there when this iteration ends is in the same write, after
        all that is sent until then."""
        self._flush_soon()
        self._laden[rider.name] = rider

    def _flush_soon(self) -> None:
        if not self._outgoing and not self._laden:
            asyncio.get_running_loop().call_soon(self._flush)

    def _load(self) -> None:
        laden, self._laden = self._laden, {}
        for rider in laden.values():
            if self.riders.get(rider.name) is not rider:
                continue  # its next attach brings everything
            try:
                inputs = rider.leaving()
                if inputs is not None:
                    self._outgoing.append(link.frame(inputs))
            except Exception:
                self._failed(rider)

    def _flush(self) -> None:
        self._load()
        transport, out = self._transport, self._outgoing
        self._outgoing = []
        if transport is None or transport.is_closing() or not out:
            return
        if transport.get_write_buffer_size() > link.HIGH_WATER:
            logger.warning("link to pid %d dropped: it does not read", self.address.pid)
            transport.abort()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))

    def ping(self) -> bool:
        """Ask for a sign of life; False if three in a row went unanswered."""
        if self.unanswered >= HUNG_AFTER_PINGS:
            return False
        self.unanswered += 1
        self.send(link.Ping(0))
        return True

    def abort(self) -> None:
        """Drop the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.welcomed.done():
            self.welcomed.set_exception(Unavailable(message="The actor is gone."))
            self.welcomed.exception()  # looked at: nobody may be waiting any more
        riders, self.riders = self.riders, {}
        for rider in riders.values():
            rider.on_lost(self)


class Links:
    """All links of this gateway, opened on demand, watched until closed."""

    def __init__(self, gateway: str, namespace: Namespace) -> None:
        self._gateway = gateway  # until `rename`
        self._namespace = namespace
        # By the address's key: from its Welcome until `_watch` finds it lost.
        self._links: dict[str, Link] = {}
        # By actor: the last link to each pool; it may be lost.
        self._pools: dict[str, Link] = {}
        self._placement = Placement()  # the newest known; number 0: none yet
        self._following = Flights[None]()  # while it asks for a newer
        self._moved: set[str] = set()  # from a host's `moved` until resolved anew
        # By actor: the id of one whose link went silent, until its actor is linked.
        self._silent: dict[str, str] = {}
        # By the address's key: from the dial until the Welcome, or a failure.
        self._opening = Flights[Link]()
        self._working: list[asyncio.Task[None]] = []  # from `start` to `close`
        self.ahead = asyncio.Event()  # set once all pools were linked, for good
        self._closed = False  # True from `close` on
        self._killing = Background()  # one for each hung actor
        # Numbers of inputs and of attaches, over all stubs: none is used twice.
        self.next_input = itertools.count(1).__next__
        self.next_turn = itertools.count(1).__next__

    def start(self) -> None:
        """Begin to watch for hung actors (design.md §3.10), and to link pools before
        they are needed (design.md §4)."""
        for work in (self._watch, self._link_pools):
            self._working.append(asyncio.create_task(work()))

    async def to(self, name: str, hint: str | None) -> Link:
        """A live link to where `name` lives now. Raises `Unavailable`.

        A name in a pool that is linked is not resolved at all. Any other may for a
        moment still mean a process that is going to sleep, so it is resolved again
        when that process cannot be reached, up to `TRIES` times in all; at once the
        first time, with the evidence that it is lost.
        """
        actor = self._placement.actor_of(name)
        known = self._pools.get(actor)
        if known is not None and not known.lost and name not in self._moved:
            return known
        backoff = Backoff(random.uniform, base_s=FIRST_PAUSE_S)
        lost = self._silent.get(actor, "")
        for attempt in range(TRIES):
            moved = name in self._moved
            address = await self._namespace.resolve(name, hint, moved, lost)
            if address.generation > self._placement.number:
                await self._follow()
            if moved:
                self._moved.discard(name)
            try:
                found = await self._at(address)
                if address.pooled:
                    self._pools[address.actor] = found
                self._silent.pop(address.actor, None)
                return found
            except Unavailable as problem:
                if attempt == TRIES - 1:
                    raise
                if isinstance(problem, _Lost):
                    lost = address.actor_id
            if attempt or not lost:
                await asyncio.sleep(backoff.delay())
        raise AssertionError("not reached")

    async def _at(self, address: Address) -> Link:
        found = self._links.get(address.key)
        if found is not None and not found.lost:
            return found
        if self._closed:
            raise Unavailable(message="The gateway closes.")
        return await self._opening.join(address.key, lambda: self._open(address))

    async def _open(self, address: Address) -> Link:
        loop = asyncio.get_running_loop()
        opened = Link(address, self._gateway)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: opened, address.host, address.port)
                await opened.welcomed
        except (OSError, TimeoutError) as error:
            opened.abort()
            raise _Lost(message="The actor cannot be reached.") from error
        except asyncio.CancelledError:
            opened.abort()  # nobody else knows it yet
            if self._closed:
                raise Unavailable(message="The gateway closes.") from None
            raise
        if opened.gateway != self._gateway:  # renamed meanwhile
            opened.abort()
            raise Unavailable(message="The gateway has a new name.")
        self._links[address.key] = opened
        return opened

    async def _follow(self) -> None:
        """Learn the newest placement; whoever wants it meanwhile shares the question.

        Raises `Unavailable`.
        """
        await self._following.join("placement", self._learn)

    async def _learn(self) -> None:
        found = await self._namespace.placement()
        if found.number > self._placement.number:
            _count_moves(self._placement, found)
            self._placement = found

    def moved(self, name: str) -> None:
        """This object does not live where we believed: resolve before it is reached."""
        if len(self._moved) > MOST_MOVED:  # whoever needs it is told `moved` again
            self._moved.clear()
        self._moved.add(name)

    def rename(self, gateway: str) -> None:
        """Be called this from now on; links under the old name end."""
        self._gateway = gateway
        self._drop()

    def _drop(self) -> None:
        for each in self._links.values():
            each.riders.clear()
            each.abort()
        self._links.clear()
        self._pools.clear()

    async def close(self) -> None:
        """Drop every link, those that are being opened too; there will be no more."""
        self._closed = True
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._opening.cancel()
        await self._following.cancel()
        self._drop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for key, each in list(self._links.items()):
                if each.lost:
                    del self._links[key]
                elif not each.ping():
                    logger.warning("pid %d is silent", each.address.pid)
                    self._silent[each.address.actor] = each.address.actor_id
                    self._killing.begin(self._kill(each.address))
                    each.abort()

    async def _link_pools(self) -> None:
        """Link every pool once a second, so that the first message of a room waits
        neither for a resolve nor for a dial, after a start or a pool's death."""
        while True:
            try:
                known = self._placement
                if not known.number or not all(map(self._linked, known.pools)):
                    await self._follow()  # one that ended may have no part any more
                pools = self._placement.pools
                await asyncio.gather(*(self.to(pool, None) for pool in pools))
                self.ahead.set()
            except Unavailable:
                pass  # whoever needs one asks for it, and is told
            except Exception:
                logger.exception("pools are not linked ahead")
            await asyncio.sleep(PING_EVERY_S)

    def _linked(self, pool: str) -> bool:
        known = self._pools.get(pool)
        return known is not None and not known.lost

    async def _kill(self, at: Address) -> None:
        """The namespace asks once more, then ends that very actor (design.md §3.10)."""
        with contextlib.suppress(Unavailable):
            await self._namespace.kill(at.actor, at.actor_id)


def _count_moves(before: Placement, after: Placement) -> None:
    if not before.number:
        return  # who just learns of a placement has seen nothing move
    for name in after.changed_after(before.number):
        if before.actor_of(name) != after.actor_of(name):
            metrics.PLACEMENT_MOVES.labels(after.why(name) or "ended").inc()
