"""An actor process: the link server and the objects that live in it.

Dedicated, it hosts one object and ends with it; a pool hosts thousands, and stays as
long as the generation of placement has a part for it. It activates an object when a
gateway first attaches to it, watches the clock for those that may sleep or must move,
and finds out within a second that it was superseded (design.md §3, Fencing): dedicated
by its object's log, as a pool by its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Self, cast

import msgspec
from msgspec.structs import replace

from actors.activation import Activation
from actors.exceptions import Exceptions, Look
from actors.load import Limits
from actors.memory import Slack
from actors.surroundings import Surroundings
from actors.thinking import Bots, Mind
from cfmessenger import link
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.ids import DIRECTOR
from cfmessenger.namespace import Address, Described
from cfmessenger.placement import Placement, is_pool
from cfmessenger.room import RoomRules
from cfmessenger.settings import Settings
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.users import Directory

logger = logging.getLogger("cfmessenger.host")

TICK_S = 0.5
TRUST_S = 2.0
"""Without a look at the log for so long, an object shows nothing (design.md §3)."""

GIVE_UP_S = 6.0
"""After so long without it others are to try, who may reach what we cannot."""

HELLO_TIMEOUT_S = 5.0
MAX_HELLO = 4096
LINGER_S = 2.0

SPREADING_S = 5.0
"""For so long after a new generation somebody may still follow the one before."""

AT_ONCE = 500
"""Objects that go to sleep together, so that their mirrors share a flush to disk."""


class HostSettings(msgspec.Struct, frozen=True):
    """What an actor process must know; travels in the actor's constructor."""

    valkey_url: str
    log_length: int
    hibernate_after: float
    chat_rate: tuple[int, int]
    nudge_rate: tuple[int, int]
    listen: str = "127.0.0.1"
    crash_at: str = ""  # tests: `before_append:3` dies at the third
    actor: str | None = None  # its own name; None: any object may live here
    placement: Placement = Placement()  # to begin with, where no generation is kept
    limits: Limits = Limits()
    bots: Bots | None = None  # None: there are none

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What of the node's settings concerns its actors."""
        assert settings.valkey_url is not None
        return cls(
            valkey_url=settings.valkey_url,
            log_length=settings.log_length,
            hibernate_after=settings.hibernate_after,
            chat_rate=(settings.chat_rate.count, settings.chat_rate.seconds),
            nudge_rate=(settings.nudge_rate.count, settings.nudge_rate.seconds),
            crash_at=settings.crash_at or "",
            bots=_bots_of(settings),
            limits=Limits(
                settings.hot_share / 100,
                settings.hot_hold / 1000,
                settings.calm_after,
                settings.own_rooms,
            ),
        )

    def for_actor(self, actor: str, placement: Placement) -> Self:
        """These settings for one actor: secrets go where they are needed."""
        bots = self.bots
        if bots is not None and actor != DIRECTOR:
            bots = replace(bots, ai_key=None)
        return replace(self, actor=actor, placement=placement, bots=bots)

    @property
    def rules(self) -> RoomRules:
        """The room's share of it."""
        return RoomRules(
            chat_rate=self.chat_rate,
            nudge_rate=self.nudge_rate,
            bots=self.bots.names if self.bots else (),
        )


def _bots_of(settings: Settings) -> Bots | None:
    personas = Directory.load(settings.users).bots if settings.bots_active else ()
    if not personas:
        return None
    return Bots(
        personas,
        active=settings.bots_active,
        quota_day=settings.bot_quota_day,
        quota_user=settings.bot_quota_user,
        quota_room=settings.bot_quota_room,
        ai_base_url=settings.ai_base_url,
        ai_model=settings.ai_model,
        ai_key=settings.ai_key,
    )


class Peer(asyncio.Protocol):
    """One gateway's link: cuts frames, checks the hello, batches what goes out."""

    def __init__(self, host: Host) -> None:
        self.gateway = ""
        self._host = host
        self._reader = link.actor_reader()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._finished = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._host.closed:  # accepted before, told only now
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HELLO_TIMEOUT_S, self.abort)
        self._host.peers.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            if not self.gateway and len(data) > MAX_HELLO:
                raise link.BrokenLink("too much before hello")
            for message in self._reader.feed(data):
                self._take(message)
        except link.BrokenLink as error:
            logger.warning("link of %s broken: %s", self.gateway or "?", error)
            self.abort()

    def _take(self, message: object) -> None:
        if isinstance(message, link.Ping):
            self.send(link.Pong(message.n))
        elif isinstance(message, link.Hello):
            self._greet(message)
        elif not self.gateway:
            raise link.BrokenLink("no hello")
        else:
            assert isinstance(message, link.Attach | link.Inputs)
            self._host.deliver(self, message)

    def _greet(self, hello: link.Hello) -> None:
        good = hmac.compare_digest(hello.key.encode(), self._host.key.encode())
        if hello.version != link.VERSION or not good or not hello.gateway:
            raise link.BrokenLink("wrong version or key")
        assert self._deadline is not None
        self._deadline.cancel()
        self.gateway = hello.gateway
        self.send(link.Welcome(link.VERSION, os.getpid()))

    def send(self, message: link.ToGateway) -> None:
        """Queue a message; all of one loop turn leave in one write."""
        if self._finished:
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.append(link.frame(message))

    def flush(self) -> None:
        """Write what is queued; a gateway that does not read loses its link."""
        transport, self._outgoing, out = self._transport, [], self._outgoing
        if transport is None or not out or transport.is_closing():
            return
        if transport.get_write_buffer_size() > link.HIGH_WATER:
            logger.warning("link of %s dropped: it does not read", self.gateway)
            transport.abort()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))

    def finish(self) -> None:
        """Say no more, but read to the end, so that the last words arrive."""
        self.flush()
        self._finished = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Drop the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._host.lost(self)


class Host(Surroundings):
    """The objects of this process. `start`, then `address`; `drain` before the end."""

    def __init__(
        self, settings: HostSettings, ended: Callable[[str], None] | None = None
    ) -> None:
        self.key = secrets.token_hex(32)
        self.peers: set[Peer] = set()
        self.objects: dict[str, Activation] = {}
        self.closed = False
        self.placement = settings.placement
        self._settings = settings
        actor = settings.actor
        self._dedicated = actor is not None and not is_pool(actor)
        self._marker = actor if actor is not None and is_pool(actor) else None
        self._epoch = 0  # a pool's own
        self._all_until = 0.0  # loop time: till then every object may live elsewhere
        self._changed: set[str] = set()  # names: may live elsewhere too
        self._moving: set[str] = set()  # do live elsewhere, and have not left yet
        self._placed_at = 0.0  # loop time of the newest generation
        self._slack = Slack()
        self._ended = ended
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._port = 0
        self._read_at = 0.0
        self._reached = 0
        self._log = ValkeyLog(settings.valkey_url, settings.log_length)
        # Its own connection: what is slow there must not cut off a commit.
        clock = Clock()
        self._aside = ValkeyLog(settings.valkey_url, settings.log_length, clock)
        self._generation = Generation(self._aside)
        self._exceptions = Exceptions(actor, settings.limits, self._generation)
        super().__init__(
            self._log,
            DerivedKeys(self._aside, self.reached),
            settings.rules,
            clock,
            self._aside,
            Mind(settings.bots) if settings.bots else None,
        )

    async def start(self) -> None:
        """Listen. Takes no object's epoch yet.

        A pool takes its own first: from here on its predecessor finds out that it is
        one. Raises `Fenced` or `Unavailable` then.
        """
        if self._marker is not None:
            self._epoch = (await self._aside.activate(self._marker)).epoch
        if (found := await self._generation.read()) is not None:
            self.place(found)
        self._server = await self.loop.create_server(
            lambda: Peer(self), self._settings.listen, 0, start_serving=False
        )
        await self._server.start_serving()
        self._port = self._server.sockets[0].getsockname()[1]
        self._read_at = self._placed_at = self.loop.time()
        self._all_until = self._read_at + SPREADING_S
        await self._exceptions.start(self.placement)
        self._ticker = asyncio.create_task(self._tick())

    @property
    def leaving(self) -> bool:
        """The process is about to end; whoever asks for it must make a new one."""
        return self._leaving is not None

    def address(self, actor_id: str) -> Address:
        """Where gateways link to, and the key they need."""
        return Address(
            self._settings.listen,
            self._port,
            self.key,
            actor_id,
            os.getpid(),
            self._settings.actor or "",
            self.placement.number,
        )

    def describe(self, placement: str) -> list[Described]:
        """What lives here now, for people."""
        found, known = [], self.placement
        for each in self.objects.values():
            own = known.own[each.name] if known.why(each.name) else None
            found.append(
                Described(
                    name=each.name,
                    placement=placement,
                    pid=os.getpid(),
                    epoch=each.epoch,
                    seq=each.seq,
                    sockets=each.sockets,
                    state=each.state.value,
                    actor=self._settings.actor or "",
                    load=round(each.load.share, 4),
                    why=own.why if own is not None else "",
                    since=own.since if own is not None else 0,
                )
            )
        return found

    def owns(self, name: str) -> bool:
        """Whether an object lives here, under the generation that we know of."""
        actor = self._settings.actor
        return actor is None or self.placement.actor_of(name) == actor

    def deliver(self, peer: Peer, message: link.Attach | link.Inputs) -> None:
        """Give a gateway's message to its object, which wakes for an `Attach`."""
        name = message.object
        activation = self.objects.get(name)
        if activation is None:
            activation = self._activate(peer, message)
            if activation is None:
                return
        began = perf_counter()
        activation.receive(peer, message)
        activation.load.took(perf_counter() - began)

    def _activate(
        self, peer: Peer, message: link.Attach | link.Inputs
    ) -> Activation | None:
        name = message.object
        if isinstance(message, link.Inputs) or self._leaving is not None:
            peer.send(link.Goodbye(name, 0, 0, "shutting_down", message.turn))
            return None
        if not self.owns(name):
            peer.send(link.Goodbye(name, 0, 0, "moved", message.turn))
            return None
        try:
            activation = Activation(name, self)
        except ValueError:
            raise link.BrokenLink("no such kind of object") from None
        self.objects[name] = activation
        activation.start()
        return activation

    def lost(self, peer: Peer) -> None:
        """A link is gone; its objects keep their rosters (design.md §3.2)."""
        self.peers.discard(peer)
        if peer.gateway:
            for activation in self.objects.values():
                activation.leave(peer)

    def gone(self, activation: Activation, reason: str) -> None:
        if self.objects.get(activation.name) is activation:
            del self.objects[activation.name]
            self._moving.discard(activation.name)
        if self._dedicated and reason != "storage_failed":
            self._leave(reason)

    def _leave(self, reason: str) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._linger(reason))

    async def _linger(self, reason: str) -> None:
        """End the links once read to the end, then the process."""
        try:
            for peer in tuple(self.peers):
                peer.finish()
            end = self.loop.time() + LINGER_S
            while self.peers and self.loop.time() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with contextlib.suppress(Unavailable):
                # It may then be believed in for a while; nobody is there.
                now = self.clock.now()
                await self._exceptions.end(self.placement, reason == "idle", now)
            await self.close()
        finally:
            # Whatever happened: a process that is leaving serves nobody.
            if self._ended is not None:
                self._ended(reason)

    async def drain(self) -> int:
        """Put every object to sleep; how many were here."""
        objects = list(self.objects.values())
        await asyncio.gather(*(each.hibernate("shutting_down") for each in objects))
        end = self.loop.time() + LINGER_S
        while self.objects and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # some were falling asleep by themselves
        if self._settings.actor is not None:
            self._leave("shutting_down")
        return len(objects)

    async def kill(self) -> None:
        """Stop as if the process had died: nothing is mirrored, nobody is told."""
        for activation in self.objects.values():
            activation.vanish()
        await self.close()

    async def close(self) -> None:
        """Stop listening and drop links and connections."""
        self.closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        if self._server is not None:
            self._server.close()
        for peer in tuple(self.peers):
            peer.abort()
        if self.mind is not None:
            await self.mind.aclose()
        assert isinstance(self.derived, DerivedKeys)
        await self.derived.flush()
        self._log.close()
        self._aside.close()

    def reached(self, point: str) -> None:
        crash_at, _, times = self._settings.crash_at.partition(":")
        if point == crash_at:
            self._reached += 1
            if self._reached == int(times or 1):
                os.kill(os.getpid(), signal.SIGKILL)

    def trusted(self) -> bool:
        return self.loop.time() - self._read_at <= TRUST_S

    async def _tick(self) -> None:
        empty_since = self.loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = self.loop.time()
            try:
                await self._look(now)
            except Unavailable as error:
                logger.warning("%s", error.message)
                self._give_up()
            except Exception:
                logger.exception("tick failed")
            if self.objects:
                empty_since = now
            elif self._marker is not None:
                if not self.placement.has(self._marker):
                    self._leave("moved")
            elif self._dedicated and now - empty_since > self._idle_s:
                self._leave("idle")

    def _give_up(self) -> None:
        """Cut off from storage, but perhaps not from the gateways: let them go."""
        if self.loop.time() - self._read_at > GIVE_UP_S:
            for activation in list(self.objects.values()):
                activation.give_up()

    async def _look(self, now: float) -> None:
        """Are we alone, are our gateways alive, who may sleep, who must move?"""
        await self._check_epochs()
        await self._bury_dead()
        seen = Look(self.placement, self.objects.values(), now, self.clock.now())
        made = await self._exceptions.look(seen)
        if made is not None:
            self.place(made)
        await self._put_to_sleep(now)

    def place(self, placement: Placement) -> None:
        """Follow a newer generation: what does not live here any more will move."""
        former = self.placement
        if placement.number <= former.number:
            return
        now = self.loop.time()
        self.placement, self._placed_at = placement, now
        if (placement.mode, placement.size) != (former.mode, former.size):
            self._all_until = now + SPREADING_S
        # An exception that came and went unseen had its own process in between.
        # And one that comes here only now may be taken by who does not know that yet.
        self._changed |= placement.changed_after(former.number)
        self._moving = {name for name in self.objects if not self.owns(name)}

    @property
    def _idle_s(self) -> float:
        return max(self._settings.hibernate_after, HELLO_TIMEOUT_S)

    async def _put_to_sleep(self, now: float) -> None:
        due: list[Awaitable[object]] = []
        moving, made = await self._exceptions.ready(
            self.placement, self._moving, self.clock.now()
        )
        if made is not None:
            self.place(made)
        for activation in list(self.objects.values()):
            if activation.name in moving & self._moving:
                due.append(activation.hibernate("moved"))
            elif activation.idle_for(now) >= self._settings.hibernate_after:
                due.append(activation.hibernate())
            else:
                activation.call_absent()
                if activation.receipts_due(now):
                    due.append(activation.mirror_receipts())
            if len(due) == AT_ONCE:
                break  # the others at the next look
        await asyncio.gather(*due)
        self._slack.look(len(self.objects))

    async def _check_epochs(self) -> None:
        """A higher epoch than ours means that somebody else speaks for the object.

        A pool has too many to look at each. It shares the fate of its own marker; only
        what a generation moves may live elsewhere too, for as long as it spreads. So
        marker and generation are read together, and who does not know that generation
        is not trusted before what it changed was looked at as well.
        """
        asked_at = self.loop.time()
        if asked_at - self._read_at > TRUST_S:
            self._all_until = asked_at + SPREADING_S  # who knows what was missed
        everything = self._marker is None or asked_at < self._all_until
        if asked_at - self._placed_at > SPREADING_S:
            self._changed &= self._moving
        mine = [
            (each, each.epoch)
            for each in self.objects.values()
            if each.epoch and (everything or each.name in self._changed)
        ]
        own = [] if self._marker is None else [self._marker]
        names = [NAME, *own, *(each.name for each, _ in mine)]
        number, *tops = await self._aside.epochs(names)
        if number > self.placement.number:
            found = await self._generation.read()
            if found is None or found.number < number:
                return  # storage has lost it: not trusted until it is there again
            self.place(found)
            await self._check_epochs()
            return
        if own and tops.pop(0) > self._epoch:
            for activation in list(self.objects.values()):
                activation.supersede()
            self._leave("duplicate_activation")
            return
        for (activation, epoch), top in zip(mine, tops, strict=True):
            if activation.epoch == epoch < top:
                activation.supersede()
        self._read_at = asked_at
        for activation in self.objects.values():
            activation.trust_again()

    async def _bury_dead(self) -> None:
        known = {g for each in self.objects.values() for g in each.gateways}
        for gateway in known - await self.derived.living(known):
            logger.info("gateway %s is dead", gateway)
            for activation in list(self.objects.values()):
                if gateway in activation.gateways:
                    activation.bury(gateway)
