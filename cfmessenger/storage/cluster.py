"""A Valkey Cluster: what goes to which of its servers (`shards.py` knows them).

It stands where one server stands otherwise. What is sent is split by slot, and whatever
was certainly not done (a connection that was refused, MOVED, ASK, TRYAGAIN,
CLUSTERDOWN; a MULTI in which one of these was said, as EXEC then does nothing) is sent
again to the right server until the deadline. An unknown outcome is never sent again:
only who sent it knows what that means (design.md §3.5).

Longer than most: what is sent for whoever waits and for whoever cannot is the same, and
goes astray in the same ways.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from cfmessenger.background import Background
from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.storage.resp import (
    Answer,
    Answered,
    Connection,
    ReplyError,
    UnknownOutcome,
    pack,
)
from cfmessenger.storage.server import DURABLE_S, Another, Server
from cfmessenger.storage.shards import Shards
from cfmessenger.storage.slots import (
    Address,
    Redirect,
    redirect_of,
    slot_of,
)

WAIT_FIRST_S, WAIT_MOST_S = 0.02, 0.25
"""The longest waits before something is sent for the second time, and for any."""
LEAST_S = 0.02
"""With less time than this nothing is sent again."""
HOPS = 3
"""So often in a row somebody is followed who sends us on, without a wait."""
PATIENCE = 2
"""Where nobody says how long, what was certainly not done is tried for so many times as
long as a reply may take: a replica needs some seconds to take over."""
_ASKING = pack([("ASKING",)])


class Part(NamedTuple):
    """What is done together or not at all, packed: a command, or a whole MULTI.

    `key` decides where it goes; "": where the part before it goes, or anywhere. `again`
    says that it may be done twice, as what only reads may.
    """

    key: str
    packed: bytes
    replies: int
    again: bool = False


def folded(replies: Sequence[Any]) -> Any:
    """The outcome of a part: of a MULTI what EXEC says, or why it was not done."""
    last = replies[-1]
    if isinstance(last, ReplyError):  # EXEC only says that there was a reason
        return next(each for each in replies if isinstance(each, ReplyError))
    return last


def together(parts: Sequence[Part]) -> tuple[bytes, int]:
    """All that is sent at once, and how many replies come."""
    if len(parts) == 1:
        return parts[0].packed, parts[0].replies
    return b"".join([part.packed for part in parts]), sum(p.replies for p in parts)


def outcomes_of(parts: Sequence[Part], found: list[Any]) -> list[Any]:
    """One for each part, of all replies."""
    if len(found) == len(parts):
        return found
    outcomes, start = [], 0
    for part in parts:
        end = start + part.replies
        outcomes.append(folded(found[start:end]))
        start = end
    return outcomes


class Manner(NamedTuple):
    """How something is sent, however often that takes. `deadline` in loop time;
    `reply_s`: how long replies may take."""

    deadline: float
    reply_s: float
    lineage: str
    durable: bool


class Cluster:
    """All servers of a cluster, as one. Raises ValueError for a URL that cannot be
    meant; nothing is contacted before the first part is sent."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._shards = Shards(url, timeout_s)
        self._again = Background()  # what was begun, and has to be sent once more

    # Where.

    def address_of(self, key: str) -> Address:
        """Where a key is, as far as is known. "": anywhere."""
        return self._shards.address_of(key)

    def server_of(self, key: str) -> Server:
        """The server that has a key, as far as is known."""
        return self._shards.server(self.address_of(key))

    def lineage_of(self, key: str) -> str:
        """Of the server that has a key; "": of all that are known, together."""
        if key:
            return self.server_of(key).lineage
        return " ".join(sorted(each.lineage for each in self._shards.servers))

    def follow(self, key: str, lineage: str, address: Address) -> None:
        """A key is at this address, where that lineage answers. Nothing in flight is
        lost: all that is known to have changed is one slot."""
        self._shards.moved(slot_of(key), address)
        server = self.server_of(key)
        if server.lineage not in ("", lineage):
            server.retire()
        self.doubt()

    @property
    def replicated(self) -> bool:
        """One of them had a replica when it was last asked."""
        return any(each.replicas for each in self._shards.servers)

    async def look(self) -> None:
        """See `Server.look`; of each that is in use, as far as they answer. Raises
        `Unavailable` if none does."""
        servers = list(self._shards.servers)
        looks = (each.look() for each in servers)
        found = await asyncio.gather(*looks, return_exceptions=True)
        problems = [each for each in found if each is not None]
        for each in problems:
            if not isinstance(each, Unavailable) or len(problems) == len(servers):
                raise each

    async def each(self, packed: bytes, timeout_s: float) -> list[Any]:
        """What each primary answers to one command. Raises `Unavailable`."""
        known = await self._shards.at_all()
        servers = [self._shards.server(each) for each in known]
        asked = (each.send(packed, 1, timeout_s) for each in servers)
        return [reply for (reply,) in await asyncio.gather(*asked)]

    async def primaries(self) -> list[str]:
        """The URL of each, as it is now. Raises `Unavailable`."""
        return [self._shards.url_of(each) for each in sorted(await self._shards.now())]

    async def connect(self, channel: str) -> Connection:
        """A new connection to who has this channel. Raises `Unavailable`."""
        try:
            await self._shards.at_all()
            return await self.server_of(channel).connect()
        except Unavailable:
            self.doubt()
            raise

    # What is sent.

    async def send(
        self,
        parts: Sequence[Part],
        timeout_s: float | None = None,
        lineage: str = "",
        *,
        durable: bool = False,
    ) -> list[Any]:
        """The outcome of each part, in order: its reply (`folded`), an error that the
        server said, or the `Unavailable` that became of it. Parts of one slot are done
        in order, or what comes `again` is: two writes whose order matters are one part.

        `lineage` is that of the server which has them all. What this server asks for
        elsewhere, as their slot is on its way there, goes there: it has come from here.
        `durable`: see `Server.send`; every part is meant to outlive its server.
        """
        loop = asyncio.get_running_loop()
        if durable and timeout_s is None:
            timeout_s = DURABLE_S
        deadline = loop.time() + (timeout_s or PATIENCE * self._timeout_s)
        manner = Manner(deadline, timeout_s or self._timeout_s, lineage, durable)
        outcomes: list[Any] = [None] * len(parts)
        left = list(range(len(parts)))
        asking: dict[int, Address] = {}  # who is to be asked for once
        backoff = Backoff(random.uniform, base_s=WAIT_FIRST_S, cap_s=WAIT_MOST_S)
        hops = 0
        looked: set[int] = set()  # whose server was another, and was looked for
        while True:
            if not self._shards.known and not await self._shards.learn(deadline):
                away = self._shards.away()
                for at in left:
                    outcomes[at] = away
                return outcomes
            left, later = await self._round(parts, left, asking, outcomes, manner)
            left = sorted(
                left + await self._elsewhere(parts, outcomes, looked, deadline)
            )
            if not left:
                return outcomes
            hops = 0 if later else hops + 1
            if later or hops > HOPS:
                wait = backoff.delay()
                if loop.time() + wait >= deadline:
                    return outcomes  # what is left was not done, and says so
                await asyncio.sleep(wait)
                await self._shards.learn(deadline)
                if deadline - loop.time() < LEAST_S:
                    return outcomes  # it could only become an unknown outcome

    def begin(
        self,
        parts: Sequence[Part],
        timeout_s: float,
        lineage: str,
        answered: Answered,
        *,
        durable: bool = False,
    ) -> bool:
        """`send` for whoever cannot wait, if one server has all parts and nothing has
        to be waited for but its replies; what it refuses is then sent on by a task.
        False: something has, and nothing was sent.

        `answered` is called with what `send` would return or raise; it must not raise.
        """
        if not self._shards.known:
            return False
        address = self.address_of(parts[0].key)
        server = self._shards.server(address)
        if durable and server.awaited:
            return False
        if any(self.address_of(part.key) != address for part in parts[1:]):
            return False
        deadline = asyncio.get_running_loop().time() + timeout_s
        manner = Manner(deadline, timeout_s, lineage, durable)

        def heard(answer: Answer) -> None:
            if isinstance(answer, list):
                outcomes = outcomes_of(parts, answer)
            else:
                outcomes = [answer] * len(parts)
                if isinstance(answer, UnknownOutcome):
                    self.doubt()
            refused = [
                at for at in range(len(parts)) if self._heed(outcomes[at], address)
            ]
            if refused:
                left = _in_order(parts, range(len(parts)), refused)
                resent = self._resent(parts, left, outcomes, manner, answered)
                self._again.begin(resent)
            else:
                answered(outcomes)

        return server.begin(*together(parts), timeout_s, lineage, heard)

    async def _resent(
        self,
        parts: Sequence[Part],
        left: Sequence[int],
        outcomes: list[Any],
        manner: Manner,
        answered: Answered,
    ) -> None:
        left_s = manner.deadline - asyncio.get_running_loop().time()
        if left_s >= LEAST_S:
            found = await self.send(
                [parts[at] for at in left],
                left_s,
                manner.lineage,
                durable=manner.durable,
            )
            for at, outcome in zip(left, found, strict=True):
                outcomes[at] = outcome
        answered(outcomes)

    async def _round(
        self,
        parts: Sequence[Part],
        left: Sequence[int],
        asking: dict[int, Address],
        outcomes: list[Any],
        manner: Manner,
    ) -> tuple[list[int], bool]:
        """Send what is left, side by side; which of it has to be sent again, and
        whether not at once."""
        groups: dict[Address, list[int]] = {}
        going: dict[int, Address] = {}  # slots of which something is asked elsewhere
        again: list[int] = []
        address = self.address_of("")
        for at in left:
            key = parts[at].key
            if at in asking:
                address = asking[at]
            elif key:
                address = self.address_of(key)
            if asking and key and going.setdefault(slot_of(key), address) != address:
                again.append(at)  # not side by side with what comes before it
                continue
            groups.setdefault(address, []).append(at)
        each = [
            self._sent(address, parts, some, asking, outcomes, manner)
            for address, some in groups.items()
        ]
        if len(each) == 1:
            await each[0]
        else:
            await asyncio.gather(*each)
        asking.clear()
        later = False
        for address, some in groups.items():
            for at in some:
                why = self._heed(outcomes[at], address)
                if why is None:
                    continue
                again.append(at)
                later |= why.kind == "later"
                if why.kind == "ask" and why.address is not None:
                    asking[at] = why.address
        return (_in_order(parts, left, again) if again else again), later

    def _heed(self, outcome: Any, address: Address) -> Redirect | None:
        """Why a part was certainly not done at this address, if it may be sent again;
        what that says of slots is known from then on."""
        why = _why_not(outcome, address)
        if why is None:
            return None
        if why.kind == "moved" and why.address is not None:
            self._shards.moved(why.slot, why.address)
        if why.kind != "ask":
            self.doubt()
        return why

    async def _elsewhere(
        self,
        parts: Sequence[Part],
        outcomes: Sequence[Any],
        looked: set[int],
        deadline: float,
    ) -> list[int]:
        """Which parts were kept from a server that was not meant, as we know of one
        that is now: for each a look at who has which slot, once."""
        strange = [
            at
            for at, outcome in enumerate(outcomes)
            if type(outcome) is Another and at not in looked
        ]
        if not strange:
            return []
        looked.update(strange)
        before = [self.address_of(parts[at].key) for at in strange]
        await self._shards.learn(deadline)
        return [
            at
            for at, was in zip(strange, before, strict=True)
            if self.address_of(parts[at].key) != was
        ]

    async def _sent(
        self,
        address: Address,
        parts: Sequence[Part],
        some: Sequence[int],
        asking: dict[int, Address],
        outcomes: list[Any],
        manner: Manner,
    ) -> None:
        packed: list[bytes] = []
        count = 0
        for at in some:
            if at in asking:
                packed.append(_ASKING)
                count += 1
            packed.append(parts[at].packed)
            count += parts[at].replies
        left_s = manner.deadline - asyncio.get_running_loop().time()
        reply_s = max(0.001, min(left_s, manner.reply_s))
        lineage = "" if any(at in asking for at in some) else manner.lineage
        try:
            found = await self._shards.server(address).send(
                b"".join(packed), count, reply_s, lineage, durable=manner.durable
            )
        except Unavailable as problem:
            if isinstance(problem, UnknownOutcome):
                self.doubt()
            for at in some:
                outcomes[at] = problem
            return
        start = 0
        for at in some:
            start += at in asking
            end = start + parts[at].replies
            outcomes[at] = folded(found[start:end])
            start = end

    def doubt(self) -> None:
        """Somebody may have another slot than we know: a look begins, if none is under
        way."""
        self._shards.doubt()

    def close(self) -> None:
        """Drop all connections; what is in flight has an unknown outcome."""
        self._shards.close()


def _why_not(outcome: Any, address: Address) -> Redirect | None:
    """Why a part was certainly not done, if it may be sent again."""
    if isinstance(outcome, ReplyError):
        return redirect_of(str(outcome), address)
    if type(outcome) is Unavailable:  # it was not sent
        return Redirect("later")
    return None


def _in_order(
    parts: Sequence[Part], sent: Sequence[int], again: Sequence[int]
) -> list[int]:
    """What has to be sent again, and with it what only reads and was answered before
    something in its slot that came first."""
    first: dict[int, int] = {}
    for at in sorted(again):
        first.setdefault(slot_of(parts[at].key), at)
    behind = {
        at
        for at in sent
        if parts[at].again and at > first.get(slot_of(parts[at].key), len(parts))
    }
    return sorted(behind | set(again))
