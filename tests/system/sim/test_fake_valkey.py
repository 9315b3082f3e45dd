"""The played Valkey answers as a real one does, command by command.

Both are asked the same things in the same order; the simulation is worth no more than
this likeness.
"""

from __future__ import annotations

import asyncio
import uuid
from random import Random
from types import SimpleNamespace
from typing import Any, Self

import pytest
from libvalkey import Reader, ReplyError

from cfmessenger.storage.valkey import Valkey
from tests.system.sim.fake_valkey import FakeValkey, Session, encode
from tests.system.sim.network import Network
from tests.system.sim.sim_loop import Process, SimLoop, Stuck

Command = tuple[str, ...]


class Played:
    """A session with the fake, without a network between."""

    def __init__(self) -> None:
        self._loop = SimLoop()
        self.server = FakeValkey(Network(self._loop, Random(1)), Random(1))
        self._session = Session(self.server)
        peer = SimpleNamespace(process=Process("tester"))
        self._session.connection_made(SimpleNamespace(peer=peer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *how: object) -> None:
        self._loop.dismantle()

    def ask(self, command: Command) -> Any:
        reader = Reader()
        reader.feed(encode(self._session._take([part.encode() for part in command])))
        return reader.gets()


def random_command(
    rng: Random, log: str, mirror: str, zset: str, loads: str
) -> list[Command]:
    """One thing that the product does, or a transaction of some."""
    epoch, seq = rng.randrange(1, 6), rng.randrange(0, 8)
    entry = f"{epoch}-{seq}"
    bound = rng.choice(["-", "+", entry, str(epoch), f"{epoch}-18446744073709551615"])
    add = ("XADD", log, "MAXLEN", "~", "10000", entry, "e", f"event {rng.random()}")
    count = str(rng.randrange(1, 5))
    member = rng.choice("abc")
    one: list[Command] = [
        add,
        ("XADD", log, entry, "e", ""),
        ("XDEL", log, entry),
        ("XADD", mirror, "MAXLEN", "=", "1", f"{epoch}-*", "final", "data"),
        ("XREVRANGE", log, bound, "-", "COUNT", count),
        ("XREVRANGE", mirror, "+", "-", "COUNT", "1"),
        ("XRANGE", log, entry, "+", "COUNT", count),
        ("XINFO", "STREAM", rng.choice([log, mirror])),
        ("ZADD", zset, str(rng.randrange(50)), member),
        ("ZADD", zset, "XX", "CH", str(rng.randrange(50)), member),
        ("ZADD", zset, "GT", str(rng.randrange(50)), member),
        ("ZREM", zset, member),
        ("ZMSCORE", zset, "a", "b", "c"),
        ("ZRANGEBYSCORE", zset, "-inf", str(rng.randrange(50))),
        ("XADD", log, "MAXLEN", "=", "1", entry, "e", "the only one"),
        ("HSETEX", loads, "EX", "60", "FIELDS", "1", member, str(epoch)),
        ("HDEL", loads, member),
        ("HMGET", loads, "a", "b", "c"),
        ("PING",),
    ]
    if rng.random() < 0.2:
        few = [rng.choice(one) for _ in range(rng.randrange(1, 4))]
        return [("MULTI",), *few, ("EXEC",)]
    return [rng.choice(one)]


def likeness(command: Command, reply: Any) -> Any:
    """A reply as the product sees it."""
    if isinstance(reply, ReplyError):
        return ("error", str(reply).partition(":")[0])
    if isinstance(reply, list):
        if b"last-generated-id" in reply:
            return reply[reply.index(b"last-generated-id") + 1]
        return [likeness(command, each) for each in reply]
    return reply


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(5))
async def test_it_answers_as_a_real_server_does(seed: int, valkey_url: str) -> None:
    rng = Random(seed)
    name = uuid.uuid4().hex
    names = [
        f"cfm:{{{name}}}:{kind}" for kind in ("log", "mirror", "gateways", "loads")
    ]
    real = Valkey(valkey_url)
    with Played() as played:
        try:
            for _ in range(300):
                commands = random_command(rng, *names)
                expected = await real.execute(commands)
                for command, reply in zip(commands, expected, strict=True):
                    told = likeness(command, played.ask(command))
                    assert told == likeness(command, reply), command
        finally:
            real.close()


def crash(played: Played, seed: int) -> int:
    """Let its server die; how many entries the log then has."""
    played.server._rng = Random(seed)
    played.server.crash()
    stream = played.server.streams.get(b"log")
    return len(stream.items) if stream else 0


def test_what_it_answered_survives_its_crash_and_the_rest_may_go() -> None:
    left = set()
    for seed in range(30):
        with Played() as played:
            for seq in range(1, 7):
                played.ask(("XADD", "log", f"1-{seq}", "e", "event"))
                if seq == 3:
                    played.server.flushed(played.server.operations)
            left.add(crash(played, seed))
    assert left == {3, 4, 5, 6}


def test_a_transaction_goes_as_a_whole() -> None:
    left = set()
    for seed in range(20):
        with Played() as played:
            played.ask(("MULTI",))
            for seq in (1, 2, 3):
                played.ask(("XADD", "log", f"1-{seq}", "e", "event"))
            played.ask(("EXEC",))
            left.add(crash(played, seed))
    assert left == {0, 3}


def test_what_a_crash_takes_back_never_was() -> None:
    # Whoever asks the world since when a generation or an epoch holds must not be told
    # of one that nobody can have seen.
    left = set()
    for seed in range(20):
        with Played() as played:
            played.ask(("XADD", "log", "MAXLEN", "=", "1", "1-0", "e", "first"))
            played.server.flushed(played.server.operations)
            played.ask(("XADD", "log", "MAXLEN", "=", "1", "2-0", "e", "second"))
            crash(played, seed)
            stream = played.server.streams[b"log"]
            assert stream.past[-1][1] == stream.items[-1]
            assert list(stream.begun) == [item.id[0] for _, item in stream.past]
            left.add(stream.top)
    assert left == {(1, 0), (2, 0)}


def test_a_field_ends_when_it_is_said_to() -> None:
    with Played() as played:
        played.ask(("HSETEX", "loads", "EX", "2", "FIELDS", "1", "a", "0.5"))
        assert played.ask(("HMGET", "loads", "a")) == [b"0.5"]
        played.server.loop._now = 2.0
        assert played.ask(("HMGET", "loads", "a")) == [None]


def test_when_it_is_full_it_refuses_to_grow_and_still_answers() -> None:
    with Played() as played:
        played.ask(("XADD", "log", "1-1", "e", "event"))
        played.server.full = True
        assert isinstance(played.ask(("XADD", "log", "1-2", "e", "event")), ReplyError)
        assert len(played.ask(("XRANGE", "log", "-", "+"))) == 1
        played.ask(("MULTI",))
        played.ask(("XADD", "log", "1-2", "e", "event"))
        assert isinstance(played.ask(("EXEC",)), ReplyError)


def test_a_world_with_nothing_left_to_do_says_so() -> None:
    loop = SimLoop()

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        loop.run_until_complete(wait())
    loop.dismantle()
