"""What kind of world a seed gives: how large, how slow, and what goes wrong in it.

Each world has its own few faults (swarm testing): one that suffers everything at once
seldom gets as far as anything in particular.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import msgspec

from actors.heat import Limits
from cfmessenger.chat.crowd import USUAL, Crowd
from cfmessenger.link.arrivals import Storm
from cfmessenger.placement import Placement

FAULTS = (
    "host_dies",
    "host_dies_at_a_point",
    "host_drains",
    "host_freezes",
    "node_is_believed_dead",
    "gateway_dies",
    "gateway_drains",
    "gateway_freezes",
    "connection_breaks",
    "connection_stalls",
    "host_cannot_reach_valkey",
    "gateway_cannot_reach_host",
    "gateway_cannot_reach_valkey",
    "valkey_dies",
    "valkey_freezes",
    "valkey_is_slow",
    "valkey_is_full",
    "namespace_is_away",
)
FAILS_OVER = "valkey_fails_over"
"""Strikes in the worlds of `FAILOVERS`, where Valkey has a replica that lags."""

REPLACED = ("valkey_is_replaced", "replica_is_away")
"""Strike in the worlds of `CONFIRMED`."""

LOSES = 970_000
"""Seeds above this: Valkey fails over, and whoever said something may die with it, so
that something acknowledged is lost; those who were shown it live on."""

STRUCK_TWICE = "hosts_die_as_valkey_fails_over"
"""Strikes in the worlds of `LOSES`."""

CONFIRMED = 950_000
"""Seeds above this: Valkey fails over, whatever else happens, and replicas have
confirmed what was shown."""

FAILOVERS = 900_000
"""Seeds above this: Valkey fails over, and whoever said something goes on living."""

CROWDS = 980_000
"""Seeds above this: people look at who is online, who are now few and now a crowd."""

HEALABLE = (
    "gateway_dies",
    "gateway_drains",
    "gateway_freezes",
    "connection_breaks",
    "connection_stalls",
    "host_cannot_reach_valkey",
    "gateway_cannot_reach_valkey",
    "valkey_dies",
    "valkey_freezes",
    "valkey_is_slow",
    "valkey_is_full",
    "namespace_is_away",
)
"""What may happen there: no process ends in which a room is awake."""

LOSABLE = ("host_dies", "host_dies_at_a_point", "host_freezes")
"""What may happen beside in the worlds of `LOSES`."""

KNOWN = tuple(each for each in HEALABLE if not each.startswith("gateway_d"))
"""What else: no gateway ends, since then nobody might know what it had shown."""

MOVES = "placement_changes"
"""Strikes where rooms live in pools, or may come to."""

EXCEPTIONS = (
    "room_is_hot",
    "room_is_promoted",
    "room_is_pinned",
    "room_is_unpinned",
    "rooms_are_demoted",
    "memory_is_short",
    "namespace_server_dies",
)
"""Strike where rooms may have actors of their own by exception."""

DEDICATED = Placement("dedicated", 1, 1)
POOL = Placement("pooled", 2, 1)
HOT_SHARE = 0.1

NEW_MS = 10_000
UP_WITHIN_S = 6.0
"""Shorter than they are, so that a short run gets to their ends."""


@dataclass(frozen=True)
class Plan:
    """The world's constants. `faults` are names and how likely each is to be next."""

    people: int = 3
    tabs: int = 2
    rooms: tuple[str, ...] = ("general",)
    gateways: int = 2
    placement: Placement = Placement(number=1)
    limits: Limits = Limits()
    lived_s: float = 60.0
    rest_ms: int = 60_000
    unstarted_p: float = 0.0
    hibernate_after: float = 2.0
    chat_rate: tuple[int, int] = (0, 1)
    nudge_rate: tuple[int, int] = (3, 10)
    buffer: int = 100
    page: int = 100
    load_page: int = 1000
    base_s: float = 0.002
    spikes_s: float = 0.2
    fsync_s: float = 0.002
    pause_s: float = 0.6
    leave_p: float = 0.03
    stale_p: float = 0.0
    poison_p: float = 0.0  # of what is said a room fails at so much
    rename_p: float = 0.0  # of what people do, they change words or status so often
    crowd: Crowd = USUAL  # so many people are one
    guest: bool = False  # somebody without a socket answers what is said
    said_before: int = 0  # what a later release has left in each room's log
    chaos_s: float = 15.0
    every_s: float = 1.5
    faults: dict[str, float] = field(default_factory=dict)
    lags_s: float = 0.0  # a replica of Valkey is behind by so much at most
    presence_all: int = 500  # with more people online it is a crowd
    storm: Storm = Storm()  # so many who come at once are one
    gazes: int = 0  # so many people have a presence socket
    awaited: int = 0  # so many replicas confirm what is shown

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed."""
        rng = Random(f"plan {seed}")
        direct = "dm_user_1__user_2"
        rooms: tuple[str, ...] = ("general",)
        if rng.random() < 0.2:
            rooms = ("general", rng.choice(("music", direct)))
        chosen = rng.sample(FAULTS, rng.choice((1, 2, 3, 4, 6)))
        quiet = rng.random() < 0.35  # rooms sleep between what people say
        plan = cls(
            people=rng.choice((2, 3, 4)),
            tabs=rng.choice((1, 2)),
            rooms=rooms,
            gateways=rng.choice((1, 2, 2, 2, 3)),
            placement=DEDICATED if rng.random() < 0.7 else POOL,
            hibernate_after=rng.choice((0.2, 0.6)) if quiet else rng.choice((1.0, 4.0)),
            chat_rate=rng.choice(((0, 1), (4, 4), (3, 8), (20, 10))),
            nudge_rate=rng.choice(((3, 10), (2, 4))),
            buffer=rng.choice((3, 10, 100, 100)),
            page=rng.choice((2, 5, 100)),
            load_page=rng.choice((4, 1000)),
            base_s=rng.choice((0.001, 0.005, 0.03)),
            spikes_s=rng.choice((0.05, 0.3, 1.0)),
            fsync_s=rng.choice((0.001, 0.01, 0.05)),
            pause_s=rng.choice((1.5, 3.0)) if quiet else rng.choice((0.2, 0.6)),
            leave_p=rng.choice((0.0, 0.02, 0.1)),
            stale_p=rng.choice((0.0, 0.1, 0.4)),
            chaos_s=rng.choice((8.0, 14.0)),
            every_s=rng.choice((0.7, 1.5, 3.0)),
            faults={name: rng.random() + 0.1 for name in chosen},
        )
        if rng.random() < 0.25:
            plan = replace(plan, poison_p=rng.choice((0.02, 0.1)))
        names = Random(f"names {seed}")  # so that the other worlds are as they were
        if names.random() < 0.4:
            plan = replace(plan, rename_p=names.choice((0.1, 0.3)))
        later = Random(f"later {seed}")  # likewise
        if later.random() < 0.2:
            plan = replace(plan, said_before=later.choice((4, 12)))
        guest = Random(f"guest {seed}")  # likewise
        plan = replace(plan, guest=guest.random() < 0.15)
        crowd = Random(f"crowd {seed}")  # likewise
        if seed < FAILOVERS and crowd.random() < 0.15:
            people, comes = crowd.choice((3, 4, 5)), crowd.choice((0.05, 0.1, 0.2))
            small = _small(crowd)
            plan = replace(plan, people=people, leave_p=comes, crowd=small)
        if plan.base_s > 0.01 and plan.page < 5:
            # Hundreds of messages, two at a time and slowly, take a minute by design.
            plan = replace(plan, page=5)
        if plan.placement is POOL or rng.random() < 0.15:
            size = rng.choice((1, 2, 3))
            pool = msgspec.structs.replace(plan.placement, size=size)
            moves = {MOVES: rng.random() * 2} if rng.random() < 0.6 else {}
            plan = replace(plan, placement=pool, faults=plan.faults | moves)
        if seed > CROWDS:
            plan = plan._with_crowds(Random(f"crowds {seed}"))
            return plan._with_storms(Random(f"storms {seed}"))  # likewise
        if seed > LOSES:
            return plan._with_losses(Random(f"loss {seed}"))
        if seed > CONFIRMED:
            return plan._confirmed(Random(f"confirmed {seed}"))
        if seed > FAILOVERS:
            return plan._with_failovers(Random(f"failover {seed}"))
        auto = Random(f"auto {seed}")  # likewise
        return plan._with_exceptions(auto) if auto.random() < 0.5 else plan

    def _with_failovers(self, rng: Random) -> Plan:
        chosen = rng.sample(HEALABLE, rng.choice((0, 1, 2, 3)))
        faults = {name: rng.random() + 0.1 for name in chosen}
        return replace(
            self,
            hibernate_after=60.0,  # who sleeps has nothing to heal with
            faults=faults | {FAILS_OVER: rng.uniform(0.3, 1.5)},
            every_s=rng.choice((1.5, 3.0)),
            lags_s=3.0,
        )

    def _with_losses(self, rng: Random) -> Plan:
        plan = self._with_failovers(rng)
        chosen = rng.sample((*LOSABLE, *KNOWN), rng.choice((0, 1, 2, 3)))
        faults = {name: rng.random() + 0.1 for name in chosen}
        for name, odds in ((STRUCK_TWICE, 1.0), (FAILS_OVER, 0.4)):
            faults[name] = rng.uniform(0.3, 1.5) * odds
        # What a guest answers may be there when what it heard is lost.
        return replace(plan, faults=faults, guest=False)

    def _with_crowds(self, rng: Random) -> Plan:
        people = rng.choice((4, 5, 6))
        return replace(
            self,
            people=people,
            tabs=1,
            gazes=rng.choice((2, 3, people)),
            presence_all=rng.choice((2, 3, 4)),
            # Of one that wakes everybody asks again, and so learns what was missed.
            hibernate_after=rng.choice((0.6, 60.0, 60.0)),
            leave_p=rng.choice((0.02, 0.1, 0.2)),
            rename_p=rng.choice((0.0, 0.1, 0.3)),
        )

    def _with_storms(self, rng: Random) -> Plan:
        if rng.random() < 0.4:
            return self
        burst, most = rng.choice((0, 0, 1)), rng.choice((0, 1))
        return replace(self, storm=Storm(1, burst, most, rng.choice((2, 4))))

    def _confirmed(self, rng: Random) -> Plan:
        struck = (FAILS_OVER, *rng.sample(REPLACED, rng.choice((0, 1, 2))))
        return replace(
            self,
            faults=self.faults | {name: rng.uniform(0.3, 1.5) for name in struck},
            every_s=rng.choice((1.5, 3.0)),
            lags_s=rng.choice((0.05, 0.3, 1.0)),
            awaited=1,
            page=max(self.page, 5),  # each waits for a replica, too
        )

    def _with_exceptions(self, rng: Random) -> Plan:
        chosen = rng.sample((*EXCEPTIONS, MOVES), rng.choice((2, 3, 5)))
        rooms = self.rooms
        if rng.random() < 0.4:
            rooms = ("general", "music", "games")[: rng.choice((2, 3))]
        return replace(
            self,
            rooms=rooms,
            placement=Placement("auto", rng.choice((1, 2, 3)), 1),
            limits=Limits(
                hot_share=HOT_SHARE,
                calm_after_s=rng.choice((1.5, 4.0)),
                own_rooms=rng.choice((0, 1, 2)),
            ),
            lived_s=rng.choice((2.0, 8.0, 60.0)),
            rest_ms=rng.choice((5_000, 10_000, 60_000)),
            unstarted_p=rng.choice((0.0, 0.3, 0.8)),
            faults=self.faults | {name: rng.random() + 0.3 for name in chosen},
        )


def _small(rng: Random) -> Crowd:
    """A bound that these few people cross, both ways, and waits that end in time."""
    return Crowd(
        above=rng.choice((1, 2, 2)),
        tick_ms=rng.choice((300, 1_000)),
        vast=3,
        vast_tick_ms=rng.choice((800, 2_500)),
        typists=1,
    )
