"""One incarnation of an object in memory: the shell around a pure machine.

Here is its life: it is born (birth.py) and lets events in (flow.py, the path of a
message); it begins anew when an append fails or the machine does; it leaves a mirror
(mirrors.py) and goes to sleep, or ends (design.md §3). It owns no socket and no
connection to Valkey: its `Surroundings` do. Rules of the product belong in the
machines; rules of being alone, durable and ordered belong here.
"""

from __future__ import annotations

import asyncio
import enum
import logging

from actors.birth import Birth, Born
from actors.flow import Flow, FromGateway
from actors.loading import SeenBeyond
from actors.mirrors import Mirrors, at_rest, believable
from actors.release import Recipient
from actors.surroundings import Surroundings
from actors.tail import Tail
from cfmessenger.background import Background
from cfmessenger.chat.machine import BLANK, Life
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.storage.log import Fenced

logger = logging.getLogger("cfmessenger.activation")

SETTLE_S = 1.0
"""So long a room that moves or shuts down waits for what is in flight."""


class State(enum.Enum):
    """Where in its life an activation is. Only RUNNING takes events (input gate);
    PARTING it waits to move or shut down, and what it took before is still shown."""

    STARTING = "starting"
    RUNNING = "running"
    PARTING = "parting"
    CLOSING = "closing"
    GONE = "gone"


class Activation:
    """A living object: `start` it, let it `receive`, `hibernate` it.

    `surroundings.gone(activation, reason)` is called exactly once, when it has ended.
    """

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.state = State.STARTING  # again from each reset until it is loaded
        self._around = around
        self._kind = around.kinds.of(name)
        self._flow = Flow(self, self._kind, around)
        self.seats, self.heat = self._flow.seats, self._flow.heat
        self._birth = Birth(name, self._kind, around)
        self._mirrors = Mirrors(name, around)
        self._background = Background()  # loads and doubts under way
        self._starting: asyncio.Task[None] | None = None  # the last load

    @property
    def epoch(self) -> int:
        """The fencing token of this incarnation; 0 until it has one."""
        return self._flow.machine.epoch

    @property
    def seq(self) -> int:
        """The number of the newest event, confirmed or not."""
        return self._flow.machine.seq

    @property
    def numbered(self) -> int:
        """The last number that the log may have of it: whoever loads may still heal."""
        return self.seq if self.awake else 2**63

    @property
    def sockets(self) -> int:
        """Connections in its roster."""
        return self._flow.machine.sockets

    @property
    def gateways(self) -> set[str]:
        """Whose sockets are in the roster."""
        return self._flow.machine.gateways

    @property
    def asked_at(self) -> float:
        """Loop time when its epoch was asked for."""
        return self._birth.asked_at

    @property
    def taken_at(self) -> float:
        """Loop time when its epoch was here."""
        return self._birth.taken_at

    @property
    def lineage(self) -> str:
        """Which server its epoch is known to hold at; "" until it has one."""
        return self._birth.lineage

    @property
    def tail(self) -> Tail:
        """What of it is known to be in the log."""
        return self._birth.tail

    @property
    def awake(self) -> bool:
        """Loaded, and not asleep or about to be: what it holds may be shown."""
        return self.state is State.RUNNING or self.state is State.PARTING

    def lived_s(self, now_s: float) -> float:
        """Seconds (loop time) awake, with sockets; 0 without."""
        awake = self.awake and self.sockets
        return now_s - self._birth.loaded_at if awake else 0.0

    def idle_for(self, now_s: float) -> float:
        """Seconds (loop time) without an event; 0 while anything is pending."""
        return self._flow.idle_for(now_s)

    # Birth, and rebirth after a reset.

    def start(self) -> None:
        """Take an epoch and load; what is received meanwhile waits."""
        self._begin(0.0)

    def _begin(self, pause_s: float) -> None:
        self._starting = self._background.begin(self._start(pause_s))

    async def _start(self, pause_s: float) -> None:
        if pause_s:
            await asyncio.sleep(pause_s)
            if self.state is not State.STARTING:
                return
        try:
            found = await self._birth.take()
            # From here on the host's looks compare it, however long the load takes.
            self._flow.machine = self._kind.fresh(Life(found.epoch))
            born = await self._birth.load(found)
        except Fenced:
            self._end("duplicate_activation")
        except Unavailable:
            # Never raised further: whoever speaks next simply tries again.
            self._end("storage_failed")
        except Exception:
            logger.exception("%s cannot be loaded", self.name)
            self._end("storage_failed")
        else:
            if self.state is State.STARTING:
                self._live(born)

    def _live(self, born: Born) -> None:
        machine, flow = born.machine, self._flow
        self.state = State.RUNNING
        machine.absent.difference_update(born.dead)
        waiting = flow.begin(machine)
        logger.info("%s active, epoch %d, seq %d", self.name, self.epoch, self.seq)
        for peer, message in waiting:
            self.receive(peer, message)
        for gateway in born.dead:
            flow.bury(gateway)  # after the attaches, so that those see it leave
        self.call_absent()
        self._birth.call_once(born.lost - machine.absent - self.seats.keys())
        flow.set_alarm()

    def call_absent(self) -> None:
        """Call the mirror's gateways that have not come back (design.md §3.8)."""
        if self.awake and self._birth.calling:
            absent = self._flow.machine.absent - self.seats.keys()
            if not self._birth.call(absent):
                self._flow.give_up_absent()

    def proved(self, lineage: str) -> None:
        """A look found all that is known of it at another server."""
        self._birth.lineage = lineage

    def behind(self) -> None:
        """A look found less in the log than is known of it: a new epoch, and the log is
        healed before it is loaded (design.md §3, Healing)."""
        if self.state is State.CLOSING:
            return  # its mirror is not taken there
        if self.state is not State.STARTING:
            self._reset("damage")
        elif self._starting is not None:
            self._starting.cancel()
            self._begin(0.0)

    def _reset(self, reason: str = "reset", pause_s: float = 0.0) -> None:
        """An append was refused or its outcome is unknown (design.md §3.5); or the
        machine failed (`recover`), or storage lost what was shown (`damage`).

        Machine and held effects are dropped, a new epoch settles what became of the
        append, and the gateways bring back what is not covered.
        """
        logger.warning("%s resets, %s, epoch %d", self.name, reason, self.epoch)
        self._goodbye(reason)
        self._flow.drop()
        self.state = State.STARTING
        self._flow.machine = self._kind.fresh(BLANK)
        self._begin(pause_s)

    def refused(self, problem: Exception) -> None:
        """An append was refused, or its outcome is unknown."""
        if isinstance(problem, Fenced):
            self._end("duplicate_activation")
        else:
            self._reset()

    def recover(self) -> None:
        """Everything that came before a fault is shown: begin anew, or end."""
        faults = self._flow.faults
        if faults.too_many:
            logger.error("%s fails too often", self.name)
            self._end("failed")
        else:
            self._reset("fault", faults.pause_s)

    def strange(self, seen: SeenBeyond) -> bool:
        """A gateway was shown something, and not by us, that the log had not when we
        began; and nobody has told that it is lost."""
        return self._birth.apart(seen) and seen.seq > self.tail.settled

    def doubt(self, beyond: SeenBeyond) -> None:
        """A gateway has seen more than we know (design.md §3.2). If the log has a newer
        epoch we are superseded; if not, storage has lost what was shown, and the object
        begins anew above it."""
        self._background.begin(self._doubt(beyond))

    async def _doubt(self, beyond: SeenBeyond) -> None:
        try:
            newest = await self._around.loads.epoch(self.name)
        except Unavailable:
            self._end("storage_failed")
            return
        if not self.awake or self.epoch != beyond.own_epoch:
            return  # it was reset meanwhile, and all were told to attach again
        if newest > self.epoch:
            self.supersede()
        else:
            birth = self._birth
            birth.beyond = beyond._replace(
                began=self.tail.began, strange=birth.apart(beyond)
            )
            self._reset("damage")

    # Events.

    def receive(self, peer: Recipient, message: FromGateway) -> None:
        """Take a gateway's message, or keep it until the input gate opens.

        While closing it never opens again: a gateway that waits is told goodbye like
        the others, and brings what is not covered to the next activation.
        """
        flow = self._flow
        if flow.entrance.open:
            flow.take(peer, message)
        elif self.state is State.GONE:  # it ended before this one's turn came
            reason = "duplicate_activation"
            peer.send(link.Goodbye(self.name, 0, 0, reason, message.turn))
        else:
            flow.entrance.keep(peer, message)

    def leave(self, peer: Recipient) -> None:
        """A link broke. Its sockets may well live on, so nobody has left the room."""
        self._flow.leave(peer)

    def bury(self, gateway: str) -> None:
        """A gateway is dead for certain: its sockets leave."""
        self._flow.bury(gateway)

    def trust_again(self) -> None:
        """Storage answers: what was held back may be shown."""
        self._flow.flush_soon()

    # Sleep, and the end.

    async def hibernate(self, reason: str = "idle") -> bool:
        """Write the mirror, say goodbye, be gone (design.md §3.7). False: it stays, or
        was reset or ended meanwhile.

        `reason`: `idle`, `moved` or `shutting_down`. An idle object refuses while
        anything is unconfirmed. One that moves or shuts down takes nothing more, waits
        for `SETTLE_S` at most, and leaves what is not covered with the gateways.
        """
        if self.state is not State.RUNNING:
            return False
        self._flow.give_up_absent()
        if not self._at_rest(reason):
            if reason == "idle":
                return False
            self.state = State.PARTING
            self._flow.part()
            if not await self._settled(reason):
                return False
            if not self._flow.confirmed:
                # A mirror must hold nothing that is not confirmed, so none is made.
                self._end("storage_failed")
                return True
        self.state = State.CLOSING
        self._flow.part()
        machine = self._flow.machine
        try:
            lived_s = self._around.loop.time() - self._birth.loaded_at
            final = believable(reason, machine.crashed, lived_s)
            await self._mirrors.save_last(machine, final, self.lineage)
        except Fenced:
            reason = "duplicate_activation"
        except Unavailable:
            # The mirror may have been written. After a new epoch it is not believed.
            if reason == "idle":
                self._reset()
                return False
            reason = "storage_failed"
        except Exception:
            logger.exception("%s cannot be mirrored, the log is left", self.name)
        self._end(reason)
        return True

    def _at_rest(self, reason: str) -> bool:
        flow, now = self._flow, self._around.clock.now()
        return at_rest(reason, flow.confirmed, flow.machine.alarm_at, now)

    async def _settled(self, reason: str) -> bool:
        """It is at rest, or there is no more time to wait for it.

        False if the object was reset or has ended meanwhile.
        """
        loop = self._around.loop
        end = loop.time() + SETTLE_S
        while not self._at_rest(reason) and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.state is State.PARTING

    def receipts_due(self, now_s: float) -> bool:
        """Receipts changed, and at this loop time a live mirror may be made of them."""
        calm = self.state is State.RUNNING and self._flow.confirmed
        return calm and self._mirrors.due(self._flow.machine, now_s)

    async def mirror_receipts(self, now_s: float) -> None:
        """Save a live mirror, if it is due at this loop time."""
        if not self.receipts_due(now_s):
            return
        machine = self._flow.machine
        try:
            await self._mirrors.save_live(machine, now_s, self.lineage)
        except Fenced:
            self._end("duplicate_activation")
        except Unavailable:
            machine.receipts_changed = True
        except Exception:
            logger.exception("%s cannot be mirrored", self.name)

    def give_up(self) -> None:
        """Storage cannot be reached from here: let a host that can take the object."""
        self._end("storage_failed")

    def supersede(self) -> None:
        """A higher epoch exists: show nothing more."""
        self._end("duplicate_activation")

    def vanish(self) -> None:
        """Be dead at once, for a process that plays its own death."""
        self.state = State.GONE
        self._flow.drop()

    def _goodbye(self, reason: str) -> None:
        flow, name, epoch = self._flow, self.name, self.epoch
        due = reason == "moved" and flow.machine.alarm_at is not None
        for seat in flow.seats.values():
            peer, turn, covered = seat.peer, seat.turn, seat.covered
            peer.send(link.Goodbye(name, epoch, covered, reason, turn, due))
        seated = {(seat.peer, seat.turn) for seat in flow.seats.values()}
        waiting = {(peer, message.turn) for peer, message in flow.entrance.waiting}
        for peer, turn in waiting - seated:
            # Epoch 0: nothing was done for them here, whatever the reason to leave.
            peer.send(link.Goodbye(name, 0, 0, reason, turn))

    def _end(self, reason: str) -> None:
        if self.state is State.GONE:
            return
        self._goodbye(reason)
        self.state = State.GONE
        self._flow.drop()
        logger.info(
            "%s gone, %s, epoch %d, seq %d", self.name, reason, self.epoch, self.seq
        )
        self._around.gone(self, reason)
