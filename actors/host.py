"""An actor process: the link server and the objects that live in it.

Dedicated, it hosts one object and ends with it; a pool hosts thousands, and stays as
long as the generation of placement has a part for it. It activates an object when a
gateway first attaches to it, watches the clock for those that may sleep or must move,
and finds out within a second that it was superseded (design.md §3, Fencing).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from time import perf_counter

from actors.activation import Activation
from actors.guests import all_kinds, arrive
from actors.host_settings import HostSettings
from actors.memory import Slack
from actors.own_rooms import Look, OwnRooms
from actors.ownership import TRUST_S, Lived, Ownership
from actors.peer import LinkServer, Peer
from actors.surroundings import Surroundings
from actors.tail import Tails
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.namespace import Address, Described
from cfmessenger.memory import Memory, memory
from cfmessenger.placement import Placement, is_pool
from cfmessenger.storage import keys
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.tls import Trust

logger = logging.getLogger("cfmessenger.host")

GIVE_UP_S = 6.0
"""After so long without a look at storage the objects are let go, so that a host that
can reach it may take them (design.md §3, Fencing)."""

LINGER_S = 2.0
KEEP_ALONE_S = 60.0
"""So long a process waits at most for an object whose log it may have to heal."""


class Host(Surroundings):
    """The objects of this process. `start`, then `address`; `drain` before the end."""

    def __init__(
        self,
        settings: HostSettings,
        ended: Callable[[str], None] | None = None,
        memory: Callable[[], Memory] = memory,
    ) -> None:
        self.objects: dict[str, Activation] = {}  # by name, from Attach to their end
        self._settings = settings
        actor = settings.actor
        self._dedicated = actor is not None and not is_pool(actor)
        self._slack = Slack()
        self._ended = ended  # called at the very end, with the reason
        self._ticker: asyncio.Task[None] | None = None  # from `start` on
        self._leaving: asyncio.Task[None] | None = None  # from `_leave` on, for good
        self._alone_since = 0.0  # loop time at which it had no tail of the gone
        self._apart = 0  # looks in a row in which its two connections led apart
        self._reached = 0  # how often the point of `crash_at` was reached
        self._log = ValkeyLog(settings.valkey_url, settings.log_length)
        # Its own connection: what is slow there must not cut off a commit.
        clock = Clock()
        self._aside = ValkeyLog(settings.valkey_url, settings.log_length, clock)
        generation = Generation(self._aside)
        self._exceptions = OwnRooms(
            actor, settings.limits, generation, memory, settings.pace
        )
        self._ownership = Ownership(
            actor, settings.placement, self._aside, generation, settings.cluster
        )
        self._guests = arrive(settings.guests)
        super().__init__(
            self._log,
            DerivedKeys(self._aside, self.reached),
            all_kinds(settings.rules, self._guests, settings.presence_all),
            clock,
            self._aside,
            Tails(settings.heal_s),
        )
        trust = Trust(settings.tls) if settings.tls is not None else None
        self.links = LinkServer(self, settings.pace.hello_s, self.turn, trust)

    async def start(self) -> None:
        """Listen; an object's epoch is taken when it is attached to.

        A pool takes its marker first, by which a predecessor finds out that it is
        superseded (design.md §4). Raises `Fenced`, `Unavailable`, or OSError where
        nothing can be listened on.
        """
        await self._ownership.take()
        self.tails.keeping = self._aside.replicated
        await self.links.listen(self._settings.listen, self._settings.link_ports)
        if self._ownership.here:
            await self._exceptions.start(self.placement)
        self._ticker = asyncio.create_task(self._tick())

    @property
    def placement(self) -> Placement:
        """The newest generation that this process knows of."""
        return self._ownership.placement

    @property
    def leaving(self) -> bool:
        """The process is about to end; whoever asks for it must make a new one."""
        return self._leaving is not None

    def address(self, actor_id: str) -> Address:
        """Where gateways link to, and the key they need."""
        return Address(
            self._settings.listen,
            self.links.port,
            self.links.key,
            actor_id,
            os.getpid(),
            self._settings.actor or "",
            self.placement.number,
            version=link.VERSION,
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
                    load=round(each.heat.share, 4),
                    why=own.why if own is not None else "",
                    since=own.since if own is not None else 0,
                )
            )
        return found

    def owns(self, name: str) -> bool:
        """Whether an object lives here, under the generation that we know of."""
        return self._ownership.owns(name)

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
        activation.heat.took(perf_counter() - began)

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
        if peer.gateway:
            for activation in self.objects.values():
                activation.leave(peer)

    def gone(self, activation: Activation, reason: str) -> None:
        if self.objects.get(activation.name) is activation:
            del self.objects[activation.name]
            self._ownership.moving.discard(activation.name)
            # Who was superseded may be the only one to know what a failover has lost.
            kept = reason in ("storage_failed", "duplicate_activation")
            self.tails.ended(activation.name, keep=kept)
        if self._dedicated and reason != "storage_failed":
            self._leave(reason)

    def _leave(self, reason: str) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._linger(reason))

    async def _linger(self, reason: str) -> None:
        """End the links once read to the end, then the process."""
        try:
            await self.links.finish(LINGER_S)
            with contextlib.suppress(Unavailable):
                # If that fails its exception stays for a while, without a process.
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
        if self._ticker is not None:
            self._ticker.cancel()
        self.links.close()
        for guest in self._guests:
            await guest.aclose()
        await self.derived.flush()
        self._log.close()
        self._aside.close()

    def reached(self, point: str) -> None:
        crash_at, _, times = self._settings.crash_at.partition(":")
        if point == crash_at:
            self._reached += 1
            if self._reached == int(times or 1):
                os.kill(os.getpid(), signal.SIGKILL)

    def trusted(self, activation: Lived) -> bool:
        return self._ownership.trusted(activation)

    async def _tick(self) -> None:
        empty_since = self.loop.time()
        while True:
            await asyncio.sleep(self._settings.pace.tick_s)
            now = self.loop.time()
            try:
                await self._look(now)
            except Unavailable as error:
                logger.warning("%s", error.message)
                self._give_up()
            except Exception:
                logger.exception("tick failed")
            if self.objects or self._keeps_tails(now):
                empty_since = now
            elif self._ownership.lived_here and not self._ownership.here:
                self._leave("moved")
            elif (pool := self._ownership.pool) is not None:
                if not self.placement.has(pool):
                    self._leave("moved")
            elif self._dedicated and now - empty_since > self._idle_s:
                self._leave("idle")

    def _keeps_tails(self, now: float) -> bool:
        """What only this process has is kept for who comes next, but not for ever."""
        if not self.tails.alone:
            self._alone_since = now
        return 0.0 < now - self._alone_since < KEEP_ALONE_S

    def _give_up(self) -> None:
        """Cut off from storage, but perhaps not from the gateways: let them go."""
        if self._ownership.unread_s > GIVE_UP_S:
            for activation in list(self.objects.values()):
                activation.give_up()

    async def _look(self, now: float) -> None:
        """Are we alone, are our gateways alive, who may sleep, who must move?"""
        await self._check_ownership()
        await self.reserve.look(self._aside)
        await self._bury_dead()
        if self._ownership.here:
            seen = Look(self.placement, self.objects.values(), now, self.clock.now())
            made = await self._exceptions.look(seen)
            if made is not None:
                self.place(made)
        await self._put_to_sleep(now)

    def place(self, placement: Placement) -> None:
        """Follow a newer generation: what does not live here any more will move."""
        self._ownership.follow(placement, self.objects)

    @property
    def _idle_s(self) -> float:
        return max(self._settings.hibernate_after, self._settings.pace.hello_s)

    async def _put_to_sleep(self, now: float) -> None:
        due: list[Awaitable[object]] = []
        owned, moving = self._ownership, set(self._ownership.moving)
        if owned.here:  # else whoever took over has made ready before
            moving, made = await self._exceptions.ready(
                self.placement, moving, self.clock.now()
            )
            if made is not None:
                self.place(made)
        for activation in list(self.objects.values()):
            if activation.name in moving & owned.moving:
                due.append(activation.hibernate("moved"))
            elif activation.idle_for(now) >= self._settings.hibernate_after:
                due.append(activation.hibernate())
            else:
                activation.call_absent()
                if activation.receipts_due(now):
                    due.append(activation.mirror_receipts(now))
            if len(due) == self._settings.pace.at_once:
                break  # the others at the next look
        await asyncio.gather(*due)
        self._slack.look(len(self.objects))

    async def _check_ownership(self) -> None:
        began = self._ownership.unread_s
        await self._aside.look()
        self._keep_together()
        lost = await self._ownership.look(self.objects)
        self.tails.keeping = self.tails.keeping or self._aside.replicated
        self.tails.passed(max(0.0, min(began, TRUST_S) - self._ownership.unread_s))
        for name in lost.names:
            self.objects[name].supersede()
        for name in lost.behind:
            self.follow(name, self._aside.lineage_of(keys.log(name)))
            self.objects[name].behind()
        if lost.all:
            self._leave("duplicate_activation")
        else:
            for activation in self.objects.values():
                activation.trust_again()

    def _keep_together(self) -> None:
        """Appends must go where epochs are taken: two connections that lead to other
        servers than each other at two looks in a row are both made anew. Of several
        servers each object's own is compared when its epoch is taken."""
        if self._log.sharded:
            return
        key = keys.log(NAME)
        of = self._log.lineage_of(key), self._aside.lineage_of(key)
        self._apart = self._apart + 1 if of[0] and of[0] != of[1] else 0
        if self._apart > 1:
            self._log.close()
            self._aside.close()

    async def _bury_dead(self) -> None:
        known = {g for each in self.objects.values() for g in each.gateways}
        for gateway in known - await self.derived.living(known):
            logger.info("gateway %s is dead", gateway)
            for activation in list(self.objects.values()):
                if gateway in activation.gateways:
                    activation.bury(gateway)
