"""An object's log and mirror in Valkey, with the epoch as the fencing token.

The id of a log entry is `<epoch>-<seq>`: Valkey refuses an id that is not above the
stream's top, so a superseded activation cannot append, and no script is needed
(design.md §3). A commit of one object is an XADD, or a MULTI of some and nothing else:
every id of a loser is below the top, so it is all or nothing. Nothing here retries a
write.

The mirror is a stream of length one whose ids are `<epoch>-<n>`, n counted by Valkey,
so that a newer mirror of the same epoch replaces an older one and a lower epoch cannot.

Longer than most: a protocol with its promises, and the one class that keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from cfmessenger.background import Background
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.slots import Address
from cfmessenger.storage.valkey import (
    EXEC,
    MULTI,
    Answer,
    Command,
    Multi,
    Part,
    Refused,
    ReplyError,
    UnknownOutcome,
    Valkey,
    checked,
    ms_of,
    pairs,
)

COMMIT_TIMEOUT_S = 5.0  # wire.md §5: STORAGE_UNAVAILABLE "at the latest after 5 s"
LOOK_AT = 500
EMPTY_FOR_S = 3600
"""How long the mirror of an object that holds nothing is kept."""
ASIDE_FOR_S = 30 * 86_400
"""How long a mirror is kept that a later release has written, for when that is back."""

_FIELD = b"e"
_XADD = b"*8\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%d\r\n%b\r\n"
_ENTRY = b"%b$%d\r\n%b\r\n$1\r\ne\r\n$%d\r\n%b\r\n"
_FINAL, _LIVE = b"final", b"live"


class Fenced(Exception):
    """Another activation of this object has taken a higher epoch: ours is over."""


class Entry(NamedTuple):
    """One durable event: its epoch, its number in the object, its wire JSON."""

    epoch: int
    seq: int
    event: bytes


class Top(NamedTuple):
    """How far a log goes: its newest epoch, the last seq in that, 0 if it has none yet,
    and its last entry."""

    epoch: int
    seq: int
    last: Entry | None


class Mirror(NamedTuple):
    """A snapshot: the epoch that wrote it, and whether it then went to sleep."""

    epoch: int
    final: bool
    data: bytes


class Activated(NamedTuple):
    """What an activation finds: its own new epoch, the last seq, the last snapshot.

    `previous_epoch` is the newest epoch before this one; a final mirror of that very
    epoch means that the object was put to sleep and nothing has happened since.
    """

    epoch: int
    previous_epoch: int
    seq: int
    mirror: Mirror | None
    numbered: int = 0  # the last seq of the newest epoch, whether it is still there
    last: Entry | None = None  # in the log
    lineage: str = ""  # who answered, as `Valkey.lineage_of` says it
    aside: bytes | None = None  # a snapshot that was `put_aside`


class Commit(NamedTuple):
    """The events of one object that become durable together, in order.

    `lineage`: who must answer, for only there the epoch was taken; "": whoever it is.
    """

    name: str
    epoch: int
    events: Sequence[tuple[int, bytes]]
    lineage: str = ""


Told = Callable[[Sequence[Exception | None] | Exception], None]


class Log(Protocol):
    """Where objects keep what must outlive them. Every method may raise `Unavailable`.

    After `Unavailable` from `commit` or `save` the outcome is unknown: the write may
    still land, until a newer epoch is taken.
    """

    async def activate(self, name: str, above: int = 0) -> Activated:
        """Take the next epoch, higher than `above` too. Raises `Fenced` when another
        activation was faster."""

    def lane(self, name: str) -> Hashable:
        """The same for all objects whose commits one server does."""

    async def commit(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Append all commits in one round trip; one outcome for each, in order."""

    def begin_commit(self, commits: Sequence[Commit], told: Told) -> None:
        """`commit` for whoever cannot wait: `told` is called once, with the outcomes or
        with what was raised. It must not raise."""

    async def save(
        self,
        name: str,
        epoch: int,
        data: bytes,
        *,
        final: bool,
        empty: bool = False,
        lineage: str = "",
    ) -> None:
        """Replace the mirror. Raises `Fenced` when a newer epoch wrote one.

        `lineage`: as in a `Commit`. `empty`: nobody would miss what is in it. So no
        mirror is made where there was none, and one that is there expires after
        `EMPTY_FOR_S`.
        """

    async def put_aside(self, name: str, mirror: Mirror, lineage: str) -> None:
        """Keep a mirror that only a later release can read: it is about to be replaced.
        One of a higher epoch that is there already stays."""

    async def newest(self, name: str, count: int, before: int | None) -> list[Entry]:
        """At most `count` entries below seq `before` (None: the top), oldest first."""

    async def after(self, name: str, seq: int, count: int) -> list[Entry]:
        """At most `count` entries above `seq`, oldest first."""

    async def epoch(self, name: str) -> int:
        """The newest epoch that anybody took; 0 if the object never lived."""

    async def read_up_to(self, name: str) -> int:
        """The last event that anybody is known to have read; 0: none."""

    def lineage_of(self, key: str) -> str:
        """See `Valkey.lineage_of`."""

    def address_of(self, key: str) -> Address | None:
        """See `Valkey.address_of`."""

    def follow(self, key: str, lineage: str, address: Address | None) -> None:
        """See `Valkey.follow`."""

    def close(self) -> None:
        """See `Valkey.close`."""


def _number(entry_id: bytes) -> tuple[int, int]:
    high, _, low = entry_id.partition(b"-")
    return int(high), int(low)


def _entries(reply: Any) -> list[Entry]:
    return [Entry(*_number(entry_id), fields[1]) for entry_id, fields in reply]


def is_stale(error: object) -> bool:
    """Whether Valkey refused an XADD because its id is not above the stream's top."""
    return isinstance(error, ReplyError) and "equal or smaller" in str(error)


def _problem(reply: Any) -> Exception | None:
    """Why an XADD, or a MULTI of some, was not done, as far as is known; None: it
    was."""
    if isinstance(reply, Unavailable):
        return reply
    for each in reply if isinstance(reply, list) else [reply]:
        if isinstance(each, ReplyError):
            return Fenced() if is_stale(each) else Refused(each)
        if isinstance(each, UnknownOutcome):
            return each
    return None


class ValkeyLog(Valkey):
    """`Log` on a Valkey server, and a client of it for the adapters beside this.

    The `clock` hears from the server what time it is, in `activate` and `tops`.
    `shown`: people see what is read here, so it has to be as durable as what they are
    shown live.
    """

    def __init__(
        self,
        url: str,
        log_length: int,
        clock: Clock | None = None,
        *,
        shown: bool = False,
    ) -> None:
        super().__init__(url)
        self._clock = clock
        self._length = str(log_length).encode()
        self._shown = shown
        self._waiting = Background()  # commits that have something to wait for

    async def _timed(
        self,
        commands: Sequence[Command | Multi],
        lineage: str = "",
        *,
        durable: bool = False,
    ) -> list[Any]:
        """`execute`, and in the same round trip the clock hears the time."""
        clock = self._clock
        if clock is None:
            return await self.execute(commands, lineage=lineage, durable=durable)
        asked_at = clock.steady()
        *replies, time = await self.execute(
            [*commands, ("TIME",)], lineage=lineage, durable=durable
        )
        clock.hear(ms_of(time), clock.steady() - asked_at)
        return replies

    async def writable(self) -> None:
        """Raises `Unavailable` unless an append would be taken now; leaves nothing.

        A server without memory, with a disk it cannot write, or that became somebody's
        replica refuses this as it would refuse a commit, and still answers a ping.
        """
        await self.ask("XADD", keys.log("probe"), "NOMKSTREAM", "*", _FIELD, b"")

    async def activate(self, name: str, above: int = 0) -> Activated:
        log, mirror = keys.log(name), keys.mirror(name)
        ((previous, numbered),) = await self.tops([name])
        lineage = self.lineage_of(log)
        if not lineage:
            raise Unavailable(message="Valkey is not connected.")
        epoch = max(previous, above) + 1
        marker = f"{epoch}-0"
        marked = [("XADD", log, marker, _FIELD, b""), ("XDEL", log, marker)]
        taken, *found = await self._timed(
            [
                Multi(log, marked),
                ("XREVRANGE", log, "+", "-", "COUNT", "1"),
                ("XREVRANGE", mirror, "+", "-", "COUNT", "1"),
                ("XREVRANGE", keys.aside(name), "+", "-", "COUNT", "1"),
            ],
            lineage,
            # All that is read from now on came before the marker. If a failover could
            # take the marker back, it could take back what is about to be shown.
            durable=True,
        )
        if problem := _problem(taken):
            raise problem
        newest, saved, aside = map(checked, found)
        last = _entries(newest)
        return Activated(
            epoch=epoch,
            previous_epoch=previous,
            seq=last[0].seq if last else 0,
            mirror=self._mirror(saved[0]) if saved else None,
            numbered=numbered,
            last=last[0] if last else None,
            lineage=lineage,
            aside=self._mirror(aside[0]).data if aside else None,
        )

    @staticmethod
    def _mirror(reply: Any) -> Mirror:
        entry_id, (kind, data) = reply
        return Mirror(_number(entry_id)[0], kind == _FINAL, data)

    def lane(self, name: str) -> Hashable:
        return self.server_of(keys.log(name))

    async def commit(self, commits: Sequence[Commit]) -> list[Exception | None]:
        lineages = {commit.lineage for commit in commits}
        if len(lineages) == 1:  # nearly always
            return await self._commit(commits, commits[0].lineage)
        outcomes: dict[int, Exception | None] = {}
        for lineage in sorted(lineages):
            places = [n for n, each in enumerate(commits) if each.lineage == lineage]
            some = [commits[n] for n in places]
            found: Sequence[Exception | None]
            try:
                found = await self._commit(some, lineage)
            except Unavailable as error:
                found = [error] * len(some)
            outcomes.update(zip(places, found, strict=True))
        return [outcomes[n] for n in range(len(commits))]

    def begin_commit(self, commits: Sequence[Commit], told: Told) -> None:
        """Nearly always there is nothing to wait for but the replies, and a message in
        a room where little is said costs half as much without a task."""

        def answered(answer: Answer) -> None:
            told(
                answer
                if isinstance(answer, Exception)
                else [_problem(reply) for reply in answer]
            )

        lineage = commits[0].lineage
        if all(each.lineage == lineage for each in commits):
            parts = [self._packed(*each[:3]) for each in commits]
            if self.begin_sending(
                parts, COMMIT_TIMEOUT_S, lineage, answered, durable=True
            ):
                return
        self._waiting.begin(self._commit_later(commits, told))

    async def _commit_later(self, commits: Sequence[Commit], told: Told) -> None:
        try:
            outcomes: Sequence[Exception | None] | Exception
            outcomes = await self.commit(commits)
        except Exception as error:
            outcomes = error
        told(outcomes)

    async def _commit(
        self, commits: Sequence[Commit], lineage: str
    ) -> list[Exception | None]:
        parts = [self._packed(*commit[:3]) for commit in commits]
        said = await self.send(parts, COMMIT_TIMEOUT_S, lineage, durable=True)
        return list(map(_problem, said))

    def _packed(
        self, name: str, epoch: int, events: Sequence[tuple[int, bytes]]
    ) -> Part:
        """A single XADD is atomic as it is; only several need the MULTI."""
        log = keys.log(name)
        key = log.encode()
        head = _XADD % (len(key), key, len(self._length), self._length)
        packed: list[bytes] = []
        for seq, event in events:
            entry_id = b"%d-%d" % (epoch, seq)
            packed.append(_ENTRY % (head, len(entry_id), entry_id, len(event), event))
        if len(packed) == 1:
            return Part(log, packed[0], 1)
        return Part(log, b"".join((MULTI, *packed, EXEC)), len(packed) + 2)

    async def save(
        self,
        name: str,
        epoch: int,
        data: bytes,
        *,
        final: bool,
        empty: bool = False,
        lineage: str = "",
    ) -> None:
        kind = _FINAL if final else _LIVE
        key = keys.mirror(name)
        entry = ("MAXLEN", "=", "1", f"{epoch}-*", kind, data)
        if empty:
            # If a newer epoch saves between these two, it is that mirror that expires.
            # Then no more is lost than in a crash, and its next save keeps the key.
            command = ("XADD", key, "NOMKSTREAM", *entry)
            (reply,) = await self.execute([command], COMMIT_TIMEOUT_S, lineage)
            if reply is not None and not isinstance(reply, ReplyError):
                await self.execute([("EXPIRE", key, EMPTY_FOR_S)])
        else:
            commands = [("XADD", key, *entry), ("PERSIST", key)]
            reply, _ = await self.execute(
                commands, COMMIT_TIMEOUT_S, lineage, durable=final
            )
        if problem := _problem(reply):
            raise problem

    async def put_aside(self, name: str, mirror: Mirror, lineage: str) -> None:
        key, kind = keys.aside(name), _FINAL if mirror.final else _LIVE
        entry = ("MAXLEN", "=", "1", f"{mirror.epoch}-*", kind, mirror.data)
        commands = [("XADD", key, *entry), ("EXPIRE", key, ASIDE_FOR_S)]
        replies = await self.execute(commands, COMMIT_TIMEOUT_S, lineage, durable=True)
        for problem in map(_problem, replies):
            if problem is not None and not isinstance(problem, Fenced):
                raise problem

    async def mirror(self, name: str) -> bytes | None:
        """The last snapshot, whoever wrote it: for readers that wake nobody."""
        found = await self.ask("XREVRANGE", keys.mirror(name), "+", "-", "COUNT", "1")
        return self._mirror(found[0]).data if found else None

    async def page(
        self, name: str, before: int | None, limit: int
    ) -> list[tuple[int, bytes]]:
        """`newest` as (seq, event) pairs, for readers that know no epochs."""
        return [(e.seq, e.event) for e in await self.newest(name, limit, before)]

    async def newest(self, name: str, count: int, before: int | None) -> list[Entry]:
        top = "+"
        if before is not None:
            if before <= 1:
                return []
            top = f"{await self._epoch_of(name, before - 1)}-{before - 1}"
        key = keys.log(name)
        found = await self._read(name, ("XREVRANGE", key, top, "-", "COUNT", count))
        return _entries(found)[::-1]

    async def after(self, name: str, seq: int, count: int) -> list[Entry]:
        start = f"{await self._epoch_of(name, seq + 1)}-{seq + 1}"
        key = keys.log(name)
        found = await self._read(name, ("XRANGE", key, start, "+", "COUNT", count))
        return _entries(found)

    async def _read(self, name: str, command: Command) -> Any:
        commands = [command]
        if self._shown and self.server_of(keys.log(name)).awaited:
            # Replicas confirm up to what a connection has written itself.
            commands.append(("SET", keys.barrier(name), "", "PX", 1))
        (found, *_) = await self.execute(commands, durable=self._shown)
        return checked(found)

    async def _epoch_of(self, name: str, seq: int) -> int:
        """The epoch that wrote `seq`, or would: the lowest one that reached it.

        Epochs and seqs rise together, so it is found by bisection; nearly always the
        newest epoch answers at once, and 20 probes settle a million wakes.
        """
        low, high = 0, await self.epoch(name)
        found = _entries(await self.ask(*self._last_of(name, high)))
        if not found or found[0].seq < seq:
            return high
        probe = high - 1
        while low < high:
            found = _entries(await self.ask(*self._last_of(name, probe)))
            if found and found[0].seq >= seq:
                high = found[0].epoch
            else:
                low = probe + 1
            probe = (low + high) // 2
        return high

    @staticmethod
    def _last_of(name: str, epoch: int) -> tuple[str, ...]:
        top = f"{epoch}-18446744073709551615"
        return ("XREVRANGE", keys.log(name), top, "-", "COUNT", "1")

    async def read_up_to(self, name: str) -> int:
        asked = ("ZRANGE", keys.reads(name), 0, 0, "REV", "WITHSCORES")
        found = await self.ask(*asked)
        return int(found[1]) if found else 0

    async def epoch(self, name: str) -> int:
        return (await self.epochs([name]))[0]

    async def epochs(self, names: Sequence[str]) -> list[int]:
        """The newest epochs of many objects, in one round trip."""
        return [epoch for epoch, _ in await self.tops(names)]

    async def tops(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """(newest epoch, last seq in it) of many objects, in one round trip.

        (0, 0) for an object that never lived. Raises `Unavailable`.
        """
        if not names:
            return []
        commands = [("XINFO", "STREAM", keys.log(name)) for name in names]
        return [self._top(reply) for reply in await self._timed(commands)]

    async def looks(self, names: Sequence[str]) -> list[Top]:
        """`tops`, and what the logs end with; `LOOK_AT` in a round trip. Raises
        `Unavailable`."""
        found: list[Top] = []
        for start in range(0, len(names), LOOK_AT):
            some = names[start : start + LOOK_AT]
            commands = [("XINFO", "STREAM", keys.log(name)) for name in some]
            for reply in await self._timed(commands):
                top = self._top(reply)
                said = {} if isinstance(reply, ReplyError) else pairs(reply)
                last = said.get(b"last-entry")
                found.append(Top(*top, _entries([last])[0] if last else None))
        return found

    @staticmethod
    def _top(reply: Any) -> tuple[int, int]:
        if isinstance(reply, ReplyError) and "no such key" in str(reply):
            return 0, 0
        return _number(pairs(checked(reply))[b"last-generated-id"])
