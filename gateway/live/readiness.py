"""Whether traffic is welcome here: what `/readyz` answers (wire.md §1).

Not when another gateway could do what this one cannot, nor when this is the only one
and no room can wake. When all lack the same it is ready but `degraded`: a balancer that
took this one out would only make it worse. So every gateway that lacks something says
so in one hash of Valkey, in fields that expire, and reads what the others lack. One
that lacks nothing writes nothing there and seldom looks. Without Valkey nothing is
known of the others, and it is not ready.

Who lacks for long what others have is cut off (the rule: `cut_off`): its sockets are
to go where they are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import structs

from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Namespace
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.reserve import Reserve
from cfmessenger.storage.valkey import Valkey
from gateway import metrics
from gateway.live.cut_off import CutOff, Seen
from gateway.live.heartbeat import DEAD_AFTER_MS

logger = logging.getLogger("cfmessenger.readiness")

SQL_EVERY = OTHERS_EVERY = 5  # checks, while nothing is lacking
SAID_FOR_S = 5  # what we lack, each time it is said

ACCEPTING, RAY, SQL, VALKEY, WAKE = "accepting", "ray", "sql", "valkey", "wake"
LINKS = "links"  # no actor refuses ours, nor we its
MEMORY = "memory"  # nearly full: no part that is there or not, but all are hit alike
_NEEDED_TO_WAKE = frozenset({LINKS, RAY, VALKEY, WAKE})

Others = Mapping[str, frozenset[str] | None]
"""What each other gateway lacks; None: it lives, but has not been able to say so."""


class Ready(msgspec.Struct, frozen=True):
    """The answer: `parts` by name, whether each is there; `degraded`: what all lack;
    `cut_off`: what this one lacks for so long that its sockets are to go."""

    ok: bool
    parts: Mapping[str, bool]
    degraded: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()


def judge(parts: Mapping[str, bool], others: Others | None) -> Ready:
    """The rule of wire.md §1. `others` None: nobody knows anything of them."""
    lacking = {name for name, there in parts.items() if not there}
    if not lacking:
        return Ready(True, parts)
    if ACCEPTING in lacking or others is None:
        return Ready(False, parts)
    if not others:
        alike = not lacking & _NEEDED_TO_WAKE
    else:
        alike = all(each is None or lacking <= _all(each) for each in others.values())
    return Ready(alike, parts, tuple(sorted(lacking)) if alike else ())


def _all(lacking: frozenset[str]) -> frozenset[str]:
    """Where Ray is away nothing wakes, whether or not that was found out yet."""
    return lacking | {WAKE} if RAY in lacking else lacking


class Readiness:
    """One gateway's. `check` runs for ever; `ready` tells what it last found."""

    def __init__(
        self,
        kv: Valkey,
        log: ValkeyLog,
        namespace: Namespace,
        sql: Callable[[], Awaitable[None]] | None,
        cut_off_s: float = 0.0,
    ) -> None:
        self._kv = kv
        self._log = log
        self._namespace = namespace
        self._sql = sql  # raises `Unavailable`; None: there are no collections
        # By name, as last found. Nothing is there until it was found once.
        self._parts = dict.fromkeys((LINKS, RAY, VALKEY, WAKE), False)
        self._refused = ""  # why a link is, as last found
        if sql is not None:
            self._parts[SQL] = False
        self._others: Others | None = None  # if read in the last check: see _compare
        self._said = False  # from saying that something is lacking until taken back
        self._round = 0  # checks so far
        self.proven = asyncio.Event()  # set once nothing was lacking, for good
        self._rule = CutOff(cut_off_s)
        self.cut_off = asyncio.Event()  # set while it is
        self._storage_lost: float | None = None  # loop time; None: it is there
        self.reserve = Reserve()
        self._alone = True  # no other gateway was there when we last knew

    def ready(self, accepting: bool) -> Ready:
        """The answer now."""
        cut_off = self.cut_off.is_set()
        parts = self._parts | {ACCEPTING: accepting and not cut_off}
        found = judge(parts, self._others)
        if self.reserve.alert and found.ok:
            told = (*found.degraded, MEMORY)
            found = structs.replace(found, degraded=tuple(sorted(told)))
        lacking = tuple(sorted(name for name, up in self._parts.items() if not up))
        return structs.replace(found, cut_off=lacking) if cut_off else found

    async def check(self, gateway: str, refused: str = "") -> None:
        """Look at every part; if one is lacking tell the others, and ask them.
        `refused`: why an actor that is there was not linked to; empty: none.

        Never raises `Unavailable`: that is what it finds.
        """
        self._refused = refused
        asked: dict[str, Awaitable[Any]] = {
            LINKS: _linked(refused),
            RAY: self._namespace.ping(),
            VALKEY: self._log.writable(),
            WAKE: self._namespace.wakes(),
        }
        if self._sql is not None and (
            self._round % SQL_EVERY == 0 or not self._parts[SQL]
        ):
            asked[SQL] = self._sql()
        self._round += 1
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*map(_why_not, asked.values()))
        for name, why_not in zip(asked, found, strict=True):
            if self._parts[name] == (why_not is None):
                continue
            self._parts[name] = why_not is None
            if why_not is None:
                logger.info("%s is there", name)
            else:
                logger.warning("%s is not there: %s", name, why_not)
        if all(self._parts.values()):
            self.proven.set()
        await self._look_at_memory()
        await self._compare(gateway)
        if self._parts[VALKEY]:
            self._storage_lost = None
        elif self._storage_lost is None:
            self._storage_lost = began
        await self._look()

    async def _look_at_memory(self) -> None:
        reserve = self.reserve
        before = (reserve.alert, reserve.full)
        with contextlib.suppress(Unavailable):  # which is found out elsewhere
            await reserve.look(self._kv)
        metrics.STORAGE_MEMORY.set(reserve.share)
        if before == (reserve.alert, reserve.full):
            return
        if reserve.full:
            logger.error("Valkey's memory is full: no messages are taken")
        elif reserve.alert:
            logger.warning(
                "%.0f %% of Valkey's memory is used: at 95 %% no messages are taken",
                reserve.share * 100,
            )
        else:
            logger.info("Valkey has memory again")

    async def _look(self) -> None:
        """Find out whether we are cut off."""
        stored = False
        if self._storage_lost is not None:
            with contextlib.suppress(Unavailable):
                stored = await self._namespace.stored()
        others = self._others
        seen = Seen(
            namespace_lost=self._namespace.unreachable_since,
            storage_lost=self._storage_lost,
            stored=stored,
            shared=others is not None
            and all(each is None or RAY in each for each in others.values()),
            alone=self._alone,
        )
        cut_off = self._rule.look(asyncio.get_running_loop().time(), seen)
        if cut_off == self.cut_off.is_set():
            return
        metrics.CUT_OFF.set(cut_off)
        if cut_off:
            logger.error("cut off: sockets are to go to other gateways")
            self.cut_off.set()
        else:
            logger.info("not cut off any more")
            self.cut_off.clear()

    async def say(self, gateway: str) -> None:
        """Tell the others what is lacking here. Raises `Unavailable`."""
        lacking = " ".join(name for name, there in self._parts.items() if not there)
        if lacking:
            self._said = True
            if self._refused:  # for people: `_ask` takes what is before it
                lacking += f"; {self._refused}"
            field = ("EX", SAID_FOR_S, "FIELDS", 1, gateway, lacking)
            await self._kv.ask("HSETEX", keys.LACKING, *field)
        elif self._said:
            await self._kv.ask("HDEL", keys.LACKING, gateway)
            self._said = False

    async def _compare(self, gateway: str) -> None:
        with contextlib.suppress(Unavailable):  # nor is our place renewed, then
            await self.say(gateway)
        others: Others | None = None
        if not all(self._parts.values()) or self._round % OTHERS_EVERY == 1:
            with contextlib.suppress(Unavailable):
                found = await self._ask()
                others = {k: v for k, v in found.items() if k != gateway}
                self._alone = not others
        # Only now: whoever asks meanwhile is told what was known before.
        self._others = others

    async def _ask(self) -> Others:
        """Every gateway, and what it lacks. Raises `Unavailable`.

        None for one that has not renewed its place lately: it cannot write to Valkey
        either. If it were dead, a gateway that can write would have removed it.
        """
        fresh = await self._kv.time(keys.GATEWAYS) - DEAD_AFTER_MS
        places = await self._kv.ask("ZRANGE", keys.GATEWAYS, 0, -1, "WITHSCORES")
        if not places:
            return {}
        names, scores = places[::2], places[1::2]
        said = await self._kv.ask("HMGET", keys.LACKING, *names)
        return {
            name.decode(): frozenset((lacking or b"").decode().split(";")[0].split())
            if float(renewed) >= fresh
            else None
            for name, renewed, lacking in zip(names, scores, said, strict=True)
        }


async def _linked(refused: str) -> None:
    if refused:
        raise Unavailable(message=f"No link: {refused}.")


async def _why_not(asked: Awaitable[Any]) -> str | None:
    try:
        await asked
    except Unavailable as problem:
        return f"{problem.message} {problem.__cause__ or ''}".rstrip()
    return None
