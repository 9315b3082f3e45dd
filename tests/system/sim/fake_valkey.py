"""A Valkey server of its own words: what the product asks of it, and how it fails.

It speaks RESP over the simulated network, so `Valkey` and `ValkeyLog` above it are the
real ones. Replies leave once the append-only file is on disk (`appendfsync
always`): what was answered survives a crash, what was not may go, newest first.
`tests/system/sim/test_fake_valkey.py` holds it to what a real server answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from libvalkey import Reader

from tests.system.sim.network import Network
from tests.system.sim.sim_loop import EPOCH_MS, Process, SimLoop

ADDRESS = ("/sim/valkey", 1)
URL = "unix:///sim/valkey"

_STALE = (
    "ERR The ID specified in XADD is equal or smaller than the target stream top item"
)
_GROWS = frozenset({b"XADD", b"ZADD", b"HSET", b"HSETEX", b"HINCRBY"})
_WRITES = _GROWS | {b"XDEL", b"SET", b"DEL", b"ZREM", b"HDEL", b"EXPIRE", b"PERSIST"}
_READONLY = "READONLY You can't write against a read only replica."
_MAX = 2**64 - 1

Id = tuple[int, int]


class Failure(NamedTuple):
    """An error reply."""

    text: str


class Simple(NamedTuple):
    """A status reply."""

    text: str


OK, QUEUED = Simple("OK"), Simple("QUEUED")


def encode(reply: Any) -> bytes:
    """A reply in RESP2."""
    if isinstance(reply, Failure):
        return b"-%b\r\n" % reply.text.encode()
    if isinstance(reply, Simple):
        return b"+%b\r\n" % reply.text.encode()
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


class Item(NamedTuple):
    """An entry of a stream: which operation made it, and whose connection that was."""

    id: Id
    fields: tuple[bytes, ...]
    operation: int
    writer: Process


class Stream:
    """The items of a stream and the highest id it ever generated; when the first parts
    of ids began, and with which items. What a crash takes back never was."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.top: Id = (0, 0)
        self.begun: dict[int, float] = {}
        self.past: list[tuple[float, Item]] = []


class Session(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: FakeValkey) -> None:
        self._server = server
        self._reader = Reader()
        self._queue: list[list[bytes]] | None = None  # between MULTI and EXEC
        self._broken = False
        self._flush_at = 0.0
        self._led_to = server.copy
        self.transport: Any = None

    @property
    def demoted(self) -> bool:
        """It leads to whoever was the primary when it was opened."""
        return self._led_to != self._server.copy

    def hold(self, seconds: float) -> None:
        """Answer nothing before that."""
        self._flush_at = max(self._flush_at, self._server.loop.time() + seconds)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        replies: list[bytes] = []
        while (command := self._reader.gets()) is not False:
            replies.append(encode(self._take(command)))
        if replies:
            self.send_durable(b"".join(replies))

    def send_durable(self, data: bytes) -> None:
        """Send once everything up to here is on disk."""
        server = self._server
        loop = server.loop
        self._flush_at = max(self._flush_at, loop.time() + server.fsync())
        loop.call_at(self._flush_at, self._flush, data, server.operations)

    def _flush(self, data: bytes, upto: int) -> None:
        self._server.flushed(upto)
        self.transport.write(data)

    def _take(self, command: list[bytes]) -> Any:
        server, verb = self._server, command[0].upper()
        if verb == b"MULTI":
            self._queue, self._broken = [], False
            return OK
        if verb == b"EXEC":
            queue, self._queue = self._queue, None
            if queue is None:
                return Failure("ERR EXEC without MULTI")
            if self._broken:
                return Failure("EXECABORT Transaction discarded because of errors.")
            with server.atomic():
                return [server.execute(each, self) for each in queue]
        if self.demoted and verb in _WRITES:
            self._broken = True
            return Failure(_READONLY)
        if server.full and verb in _GROWS:
            self._broken = True
            return Failure("OOM command not allowed when used memory > 'maxmemory'.")
        if self._queue is not None:
            self._queue.append(command)
            return QUEUED
        return server.execute(command, self)

    def connection_lost(self, exc: Exception | None) -> None:
        for listeners in self._server.channels.values():
            listeners.pop(self, None)


class FakeValkey:
    """The server and its data. `start` it; `crash` it; `start` it again."""

    def __init__(self, network: Network, rng: Random) -> None:
        self.loop: SimLoop = network.loop
        self.process = Process("valkey")
        self.streams: dict[bytes, Stream] = {}
        self.strings: dict[bytes, bytes] = {}
        self.zsets: dict[bytes, dict[bytes, int]] = {}
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}  # survive everything here
        self.ends: dict[tuple[bytes, bytes], float] = {}  # of their fields
        self.channels: dict[bytes, dict[Session, None]] = {}
        self.operations = 0
        self.on_disk = 0  # operations that survive whatever happens
        self.fsync_s = 0.001
        self.full = False  # out of memory: writes are refused
        self.started = 0  # how often
        self.copy = 0  # whose data it is: rises with each failover
        self.replicas = 0
        self._network = network
        self._rng = rng
        # By operation and time: how to take back what is not on disk yet, or not yet at
        # the replica that may take over.
        self._undo: list[tuple[int, float, list[Callable[[], None]]]] = []
        # Events that were on disk and are gone in a failover: log, number, bytes.
        self.once: set[tuple[bytes, int, bytes]] = set()
        # What each failover took back of them, and when.
        self.gone: list[tuple[float, bytes, int, bytes]] = []
        self.lags_s = 0.0  # the replica does so much at most
        self._away_since = math.inf
        self._transaction: list[Callable[[], None]] | None = None

    def start(self) -> None:
        """Listen, as a new process."""
        self.started += 1
        self.process = Process("valkey")
        self._network.listen(self.process, lambda: Session(self), *ADDRESS)

    def crash(self) -> None:
        """As `kill -9`: of what was answered to nobody yet, the newest may go."""
        self.process.alive = False
        self._network.died(self.process)
        self.channels.clear()
        unsure = sum(operation > self.on_disk for operation, _, _ in self._undo)
        lost = self._rng.randrange(unsure + 1) if unsure else 0
        for _ in range(lost):
            self._take_back()
        if not self.lags_s:
            self._undo.clear()
        self.on_disk = self.operations

    def _take_back(self) -> None:
        for undo in reversed(self._undo.pop()[2]):
            undo()

    def fail_over(self, lag_s: float) -> None:
        """It dies, and a replica that lacks the last `lag_s` seconds takes its place,
        as soon as it is started."""
        self.crash()
        before = self._events()
        self.once |= before
        while self._undo and self._undo[-1][1] > self._had(lag_s):
            self._take_back()
        now = self.loop.time()
        self.gone += [(now, *each) for each in sorted(before - self._events())]
        self.copy += 1

    def _events(self) -> set[tuple[bytes, int, bytes]]:
        return {
            (key, item.id[1], item.fields[1])
            for key, stream in self.streams.items()
            if key.endswith(b":log")
            for item in stream.items
        }

    def fill(self, key: bytes, events: Iterable[bytes]) -> None:
        """What somebody has appended long ago, in the epoch 1."""
        stream = self.streams[key] = Stream()
        writer = Process("long ago")
        for seq, event in enumerate(events, 1):
            stream.items.append(Item((1, seq), (b"e", event), 0, writer))
            stream.top = (1, seq)

    def fsync(self) -> float:
        """How long the disk takes now."""
        return self._rng.random() * self.fsync_s

    def flushed(self, upto: int) -> None:
        self.on_disk = max(self.on_disk, upto)
        old = self._had(self.lags_s)
        while self._undo and self._undo[0][0] <= self.on_disk:
            if self.lags_s and self._undo[0][1] > old:
                break
            del self._undo[0]

    # Commands.

    def execute(self, command: list[bytes], session: Session) -> Any:
        verb = command[0].upper().decode()
        handler = getattr(self, f"_{verb.lower()}", None)
        if handler is None:
            return Failure(f"ERR unknown command '{verb}'")
        return handler(session, *command[1:])

    def _ping(self, session: Session, *args: bytes) -> Any:
        subscribed = any(session in each for each in self.channels.values())
        return [b"pong", b""] if subscribed else Simple("PONG")

    def _role(self, session: Session) -> Any:
        return [b"slave" if session.demoted else b"master", 0, []]

    def _wait(self, session: Session, awaited: bytes, ms: bytes) -> Any:
        if session.demoted:
            return Failure("ERR WAIT cannot be used with replica instances.")
        enough = self.replicas >= int(awaited) and self.lags_s <= int(ms) / 1000
        session.hold(self.lags_s if enough else int(ms) / 1000)
        return self.replicas if enough else 0

    def leave(self) -> None:
        """The replica is away, until it is `back`; what is under way still arrives."""
        self.replicas, self._away_since = 0, self.loop.time() + self.lags_s

    def back(self) -> None:
        self.replicas, self._away_since = int(self.lags_s > 0), math.inf

    def _had(self, lag_s: float) -> float:
        """Until when a replica that is so late has everything."""
        return min(self.loop.time(), self._away_since) - lag_s

    def replicated(self, operation: int) -> bool:
        """A failover could not take it back."""
        newest = self._had(self.lags_s)
        return not any(
            upto - len(undos) < operation <= upto and at > newest
            for upto, at, undos in self._undo
        )

    def _set(self, session: Session, key: bytes, *args: bytes) -> Any:
        assert args == (b"", b"PX", b"1")  # a barrier: gone before anybody looks
        return OK

    def _time(self, session: Session) -> Any:
        now = EPOCH_MS * 1000 + int(self.loop.time() * 1_000_000)
        return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]

    def _xadd(self, session: Session, key: bytes, *args: bytes) -> Any:
        length: int | None = None
        if args[0].upper() == b"NOMKSTREAM":
            if key not in self.streams:
                return None
            args = args[1:]
        if args[0].upper() == b"MAXLEN":
            # "~" trims whole nodes only; a log here never fills one.
            length = int(args[2]) if args[1] == b"=" else None
            args = args[3:]
        stream = self.streams.get(key) or Stream()
        high, _, low = args[0].partition(b"-")
        epoch = int(high)
        if low == b"*":
            number = stream.top[1] + 1 if epoch == stream.top[0] else 0
        else:
            number = int(low)
        entry: Id = (epoch, number)
        if entry <= stream.top:
            return Failure(_STALE)
        self._keep(key, stream)
        writer = session.transport.peer.process
        item = Item(entry, args[1:], self.operations, writer)
        if epoch > stream.top[0]:
            stream.begun[epoch] = self.loop.time()
            stream.past.append((self.loop.time(), item))
        items = [*stream.items, item] if length else stream.items
        if length:
            stream.items = items[-length:]
        else:
            items.append(item)
        stream.top = entry
        self.streams[key] = stream
        return b"%d-%d" % entry

    def _keep(self, key: bytes, stream: Stream) -> None:
        """How to take the next operation back, should it be lost."""
        items, size, top = stream.items, len(stream.items), stream.top
        begun, past = dict(stream.begun), len(stream.past)
        known = key in self.streams

        def undo() -> None:
            del items[size:], stream.past[past:]
            stream.items, stream.top, stream.begun = items, top, begun
            if not known:
                del self.streams[key]

        self.operations += 1
        if self._transaction is not None:
            self._transaction.append(undo)
        else:
            self._undo.append((self.operations, self.loop.time(), [undo]))

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """What is done inside is lost together or not at all."""
        self._transaction = []
        yield
        if self._transaction:
            now = self.loop.time()
            self._undo.append((self.operations, now, self._transaction))
        self._transaction = None

    def _xdel(self, session: Session, key: bytes, entry: bytes) -> Any:
        stream = self.streams.get(key)
        if stream is None:
            return 0
        self._keep(key, stream)
        wanted = _id(entry, 0)
        left = [item for item in stream.items if item.id != wanted]
        gone, stream.items = len(stream.items) - len(left), left
        return gone

    def _xrange(self, session: Session, key: bytes, *args: bytes) -> Any:
        return self._range(key, args[0], args[1], args[2:], back=False)

    def _xrevrange(self, session: Session, key: bytes, *args: bytes) -> Any:
        return self._range(key, args[1], args[0], args[2:], back=True)

    def _range(
        self, key: bytes, start: bytes, end: bytes, rest: tuple[bytes, ...], back: bool
    ) -> Any:
        stream = self.streams.get(key)
        low, high = _id(start, 0), _id(end, _MAX)
        found = [i for i in stream.items if low <= i.id <= high] if stream else []
        if back:
            found.reverse()
        if rest:
            found = found[: int(rest[1])]
        return [[b"%d-%d" % item.id, list(item.fields)] for item in found]

    def _xinfo(self, session: Session, what: bytes, key: bytes) -> Any:
        stream = self.streams.get(key)
        if stream is None:
            return Failure("ERR no such key")
        top = b"%d-%d" % stream.top
        found = [b"length", len(stream.items), b"last-generated-id", top]
        last = None
        if stream.items:
            item = stream.items[-1]
            last = [b"%d-%d" % item.id, list(item.fields)]
        return [*found, b"last-entry", last]

    def _info(self, session: Session, *sections: bytes) -> Any:
        said = f"run_id:{self.process.name}{self.started}\nmaster_replid:{self.copy}"
        role = "slave" if session.demoted else "master"
        memory = f"used_memory:{100 if self.full else 10}\nmaxmemory:100"
        told = f"{said}\nrole:{role}\nconnected_slaves:{self.replicas}\n{memory}\n"
        return told.encode()

    def _get(self, session: Session, key: bytes) -> Any:
        return self.strings.get(key)

    def _zrange(
        self, session: Session, key: bytes, low: bytes, high: bytes, *how: bytes
    ) -> Any:
        found = sorted((s, m) for m, s in self.zsets.get(key, {}).items())
        if b"REV" in how:
            found = found[::-1]
        found = found[int(low) : len(found) if high == b"-1" else int(high) + 1]
        if b"WITHSCORES" in how:
            return [part for s, member in found for part in (member, b"%d" % s)]
        return [member for _, member in found]

    def _zrevrange(self, session: Session, key: bytes, *where: bytes) -> Any:
        return self._zrange(session, key, *where, b"REV")

    def _zadd(self, session: Session, key: bytes, *args: bytes) -> Any:
        flags = [each for each in args if each in (b"XX", b"CH", b"GT")]
        pairs, changed = args[len(flags) :], 0
        zset = self.zsets.setdefault(key, {})
        for score, member in zip(map(int, pairs[::2]), pairs[1::2], strict=True):
            old = zset.get(member)
            if (b"XX" in flags and old is None) or (
                b"GT" in flags and old is not None and old >= score
            ):
                continue
            zset[member] = score
            changed += old is None or (b"CH" in flags and old != score)
        return changed

    def _zrem(self, session: Session, key: bytes, member: bytes) -> Any:
        return int(self.zsets.get(key, {}).pop(member, None) is not None)

    def _zmscore(self, session: Session, key: bytes, *members: bytes) -> Any:
        zset = self.zsets.get(key, {})
        return [b"%d" % zset[m] if m in zset else None for m in members]

    def _zrangebyscore(
        self, session: Session, key: bytes, low: bytes, high: bytes
    ) -> Any:
        assert low == b"-inf"
        found = sorted((s, m) for m, s in self.zsets.get(key, {}).items())
        return [member for score, member in found if score <= int(high)]

    def _subscribe(self, session: Session, channel: bytes) -> Any:
        self.channels.setdefault(channel, {})[session] = None
        return [b"subscribe", channel, 1]

    def _publish(self, session: Session, channel: bytes, text: bytes) -> Any:
        listeners = list(self.channels.get(channel, ()))
        for each in listeners:
            each.send_durable(encode([b"message", channel, text]))
        return len(listeners)

    # Derived keys: what somebody chose is read back, the rest is not.

    def _hmget(self, session: Session, key: bytes, *fields: bytes) -> Any:
        found, now = self.hashes.get(key, {}), self.loop.time()
        for field in fields:
            if self.ends.get((key, field), now + 1) <= now:
                found.pop(field, None)
        return [found.get(field) for field in fields]

    def _hset(self, session: Session, key: bytes, *pairs: bytes) -> Any:
        for field, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.hashes.setdefault(key, {})[field] = value
            self.ends.pop((key, field), None)
        return 0

    def _hincrby(
        self, session: Session, key: bytes, field: bytes, amount: bytes
    ) -> Any:
        found = self.hashes.setdefault(key, {})
        found[field] = b"%d" % (int(found.get(field, b"0")) + int(amount))
        return int(found[field])

    def _hdel(self, session: Session, key: bytes, *fields: bytes) -> Any:
        found = self.hashes.get(key, {})
        return sum(found.pop(field, None) is not None for field in fields)

    def _del(self, session: Session, key: bytes) -> Any:
        return int(self.hashes.pop(key, None) is not None)

    def _nothing(self, session: Session, *args: bytes) -> Any:
        return 0

    _persist = _expire = _zremrangebyrank = _nothing

    def _hsetex(self, session: Session, key: bytes, *args: bytes) -> Any:
        if args[0] != b"EX":
            return 1  # a rate's or a session's: here a place is always free
        _, seconds, _, _, *pairs = args
        self._hset(session, key, *pairs)
        for field in pairs[::2]:
            self.ends[key, field] = self.loop.time() + int(seconds)
        return 1

    def _hpttl(self, session: Session, key: bytes, *args: bytes) -> Any:
        return [-2] * int(args[1])


def _id(text: bytes, low: int) -> Id:
    if text in (b"-", b"+"):
        return (0, 0) if text == b"-" else (_MAX, _MAX)
    high, dash, rest = text.partition(b"-")
    return (int(high), int(rest) if dash else low)
