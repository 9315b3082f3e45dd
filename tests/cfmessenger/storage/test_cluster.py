"""A real Valkey Cluster of three shards: slots that move, primaries that die.

What is written while a slot moves is there once and in order, and nothing whose outcome
is unknown is sent again.
"""

import asyncio
import math
import random
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest
import valkey

from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.cluster import Cluster, Part
from cfmessenger.storage.copying import JUMP, Restore, copied
from cfmessenger.storage.log import Commit, Fenced, ValkeyLog
from cfmessenger.storage.server import Server
from cfmessenger.storage.slots import slot_of
from cfmessenger.storage.valkey import Multi, Refused, ReplyError, Valkey, pack
from tests import patience
from tests.gateway.node import eventually
from tests.patience import Stopwatch
from tests.structure import PACKAGES, ROOT
from tests.valkey_cluster import (
    ADMIN,
    PASSWORD,
    Node,
    ValkeyCluster,
    own_valkey_cluster,
)

LENGTH = 10_000


@pytest.fixture
async def log(valkey_cluster: ValkeyCluster) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_cluster.url, LENGTH)
    yield log
    log.close()


@pytest.fixture(scope="module")
def replicated() -> Iterator[ValkeyCluster]:
    """Of this module alone: its primaries are killed and its replicas take over."""
    with own_valkey_cluster(replicas=1) as cluster:
        yield cluster


def fresh(kind: str = "room") -> str:
    return f"{kind}:{uuid.uuid4().hex}"


def events(*seqs: int) -> list[tuple[int, bytes]]:
    return [(seq, b'{"seq":%d}' % seq) for seq in seqs]


async def seqs_of(log: ValkeyLog, name: str) -> list[int]:
    return [entry.seq for entry in await log.after(name, 0, LENGTH)]


async def known(log: ValkeyLog) -> None:
    """The client knows who has which slot."""
    await log.ask("EXISTS", "cfm:x")


async def begun(log: ValkeyLog, *commits: Commit) -> list[Exception | None]:
    """As a `Committer` does it, which cannot wait."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    log.begin_commit(commits, told.set_result)
    outcomes = await told
    assert isinstance(outcomes, list), outcomes
    return outcomes


# What is asked.


async def test_a_batch_is_split_by_slot_and_its_replies_are_in_order(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    names = [f"cfm:test:{uuid.uuid4().hex}" for _ in range(200)]
    assert len({valkey_cluster.owner(name).port for name in names}) == 3
    await log.ask_all(*(("SET", name, n) for n, name in enumerate(names)))
    found = await log.execute(
        [
            *(("GET", name) for name in names),
            Multi(names[0], [("GET", names[0])]),
            ("SADD", names[1], "1"),
            ("TIME",),
        ]
    )
    assert found[:200] == [str(n).encode() for n in range(200)]
    assert found[200] == [b"0"]
    assert isinstance(found[201], ReplyError) and "WRONGTYPE" in str(found[201])
    assert len(found[202]) == 2
    with pytest.raises(Refused):
        await log.ask_all(("GET", names[0]), ("SADD", names[1], "1"))


async def test_there_is_one_connection_for_each_primary(
    valkey_cluster: ValkeyCluster,
) -> None:
    before = [node.connections() for node in valkey_cluster.primaries]
    with closing(Valkey(valkey_cluster.url)) as kv:
        names = [f"cfm:test:{n}" for n in range(100)]
        for _ in range(3):
            await asyncio.gather(*(kv.ask("GET", name) for name in names))
        after = [node.connections() for node in valkey_cluster.primaries]
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


async def test_one_dead_seed_is_enough_to_begin_with_another(
    valkey_cluster: ValkeyCluster,
) -> None:
    head, _, hosts = valkey_cluster.url.rpartition("@")
    with closing(Valkey(f"{head}@127.0.0.1:1,{hosts}")) as kv:
        assert await kv.ask("GET", "cfm:test:none") is None
    with closing(Valkey(f"{head}@127.0.0.1:1,127.0.0.1:2", timeout_s=0.5)) as away:
        with pytest.raises(Unavailable, match="No server of the Valkey Cluster"):
            await away.ask("GET", "cfm:test:none")


async def test_a_transaction_over_several_slots_is_an_error_at_once(
    log: ValkeyLog,
) -> None:
    with pytest.raises(ValueError, match="several slots"):
        await log.multi("cfm:{a}:x", ("DEL", "cfm:{a}:x", "cfm:{b}:x"))
    with pytest.raises(ValueError, match="several slots"):
        await log.execute([("GET", "cfm:a"), Multi("cfm:a", [("GET", "cfm:b")])])


def transactions() -> list[str]:
    """Every place in the product where one is made, as file and function."""
    found = []
    for path in (each for root in PACKAGES for each in (ROOT / root).rglob("*.py")):
        function = ""
        for line in path.read_text().splitlines():
            if defined := re.match(r"\s*(?:async )?def (\w+)", line):
                function = defined[1]
            elif re.search(r"(?<!class )\bMulti\(|\.multi\(", line):
                found.append(f"{path.relative_to(ROOT).as_posix()} {function}")
    return sorted(set(found))


def test_every_transaction_of_the_product_has_a_test_on_a_cluster() -> None:
    """`execute` refuses one over several slots, so it is enough that each is sent: by
    the tests of this table, all of which run on a real cluster too."""
    assert transactions() == [
        # tests/cfmessenger/accounts/test_sessions.py
        "cfmessenger/accounts/sessions.py _brought_over",
        "cfmessenger/accounts/sessions.py _end",
        "cfmessenger/accounts/sessions.py create",
        "cfmessenger/accounts/sessions.py refresh",
        "cfmessenger/accounts/sessions.py slide",
        # test_what_follows_from_effects_is_written_there_too
        "cfmessenger/bots/derived.py _active",
        "cfmessenger/bots/derived.py _count",
        # test_a_copy_is_taken_of_all_shards_and_put_back_there
        "cfmessenger/storage/copying.py _clear",
        "cfmessenger/storage/copying.py _wanted",
        "cfmessenger/storage/copying.py put",
        "cfmessenger/storage/derived.py record",
        # here
        "cfmessenger/storage/log.py activate",
        "cfmessenger/storage/valkey.py multi",
    ]


async def test_what_follows_from_effects_is_written_there_too(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    from cfmessenger.bots.derived import DERIVED
    from cfmessenger.bots.effects import Active, Count
    from cfmessenger.chat.effects import Record
    from cfmessenger.storage.derived import DerivedKeys

    derived, user = DerivedKeys(log), uuid.uuid4().hex
    derived.record(Record(user, "online", 1, True), "g1")
    derived.record(Record(f"{user}-gone", "away", 2, False), None)
    derived.touch("room:dm_a__b", (user,), 7)
    derived.read("room:dm_a__b", user, 5)
    count = Count(20_000, user, "asked", 1)
    for effect in (count, Active((user, "b"), (user, "b", "c"))):
        derived.write(*DERIVED[type(effect)](effect))
    await derived.flush()
    found = await log.ask_all(
        ("HGET", keys.presence(user), "status"),
        ("HGET", keys.presence(f"{user}-gone"), "chosen"),
        ("ZSCORE", keys.reads("room:dm_a__b"), user),
        ("HGET", keys.bots_metrics("2024-10-04"), f"{user}:asked"),
        ("GET", keys.BOTS_LINE),
    )
    assert found == [b"online", b"away", b"5", b"1", f"{user} b c".encode()]
    assert await log.ask("ZRANGE", keys.user_rooms(user), 0, -1) == [b"dm_a__b"]
    assert set(await log.ask("SMEMBERS", keys.BOTS_ACTIVE)) == {user.encode(), b"b"}
    for key in (keys.presence(user), keys.presence(f"{user}-gone")):
        owner = valkey_cluster.owner(key)
        assert owner.do("TTL", key) > 0


async def test_the_time_is_that_of_the_server_that_has_the_key(
    valkey_cluster: ValkeyCluster,
) -> None:
    names = {valkey_cluster.owner(k).port: k for k in (f"cfm:{n}" for n in range(50))}
    before = {n.port: _calls(n, "time") for n in valkey_cluster.primaries}
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as kv:
        for times, key in enumerate(names.values(), 1):
            for _ in range(times):
                assert await kv.time(key) > 1_700_000_000_000
        taken = [
            _calls(n, "time") - before[n.port]
            for port in names
            for n in valkey_cluster.primaries
            if n.port == port
        ]
    assert taken == [1, 2, 3]


def _calls(node: Node, command: str) -> int:
    return node.stat(f"cmdstat_{command}", "calls")


async def test_every_primary_is_asked_for_its_version(
    valkey_cluster: ValkeyCluster, log: ValkeyLog
) -> None:
    before = [_calls(node, "info") for node in valkey_cluster.primaries]
    assert int((await log.require_version()).partition(".")[0]) >= 9
    after = [_calls(node, "info") for node in valkey_cluster.primaries]
    # One more is that of `_calls`.
    asked = [b - a for a, b in zip(before, after, strict=True)]
    assert min(asked) >= 3, "and each connection asks who is there"


async def test_a_copy_is_taken_of_all_shards_and_put_back_there(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    names = [fresh() for _ in range(12)]
    for name in names:
        assert (await log.activate(name)).epoch == 1
        assert await log.commit([Commit(name, 1, events(1, 2))]) == [None]
    url = valkey_cluster.url.replace(f"cfm:{PASSWORD}@", f"{ADMIN}:-@")
    with closing(Valkey(url)) as kv:
        items = [item async for item in copied(kv) if item.name in names]
        assert {item.name for item in items} == set(names)
        assert len({log.server_of(keys.log(name)) for name in names}) > 1
        assert await log.commit([Commit(names[0], 1, events(3))]) == [None]
        await Restore(kv).put(items)
    for name in names:
        assert await seqs_of(log, name) == [1, 2]
        assert (await log.activate(name)).epoch == JUMP + 2


async def test_a_commit_needs_a_task_only_if_one_server_has_not_all_of_it(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    one, other = fresh(), fresh()
    while valkey_cluster.owner(keys.log(one)) is valkey_cluster.owner(keys.log(other)):
        other = fresh()
    for name in (one, other):
        await log.activate(name)
        log.server_of(keys.log(name))._look_at = math.inf
    told: list[object] = []
    first, second = Commit(one, 1, events(1, 2)), Commit(other, 1, events(1))
    log.begin_commit([first], told.append)
    assert len(log._waiting) == 0
    await eventually(lambda: told)
    assert told == [[None]]
    again, behind = Commit(one, 1, events(2)), Commit(one, 1, events(3))
    (refused, none) = await begun(log, again, behind)
    assert isinstance(refused, Refused | Fenced) and none is None
    log.begin_commit([second, Commit(one, 1, events(4))], told.append)
    assert len(log._waiting) == 1
    await eventually(lambda: len(told) == 2)
    assert told[1] == [None, None]
    assert await seqs_of(log, one) == [1, 2, 3, 4]


# A slot moves.


async def test_what_was_begun_and_refused_as_its_slot_had_moved_is_sent_on(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    name, stays = fresh(), fresh()
    while valkey_cluster.owner(keys.log(stays)) is not valkey_cluster.owner(
        keys.log(name)
    ):
        stays = fresh()
    for each in (name, stays):
        await log.activate(each)
    before = log.server_of(keys.log(name))
    before._look_at = math.inf
    valkey_cluster.move(keys.log(name))
    both = Commit(name, 1, events(1, 2)), Commit(stays, 1, events(1))
    assert await begun(log, *both) == [None, None]
    assert log.server_of(keys.log(name)) is not before, "it is known from now on"
    assert await begun(log, Commit(name, 1, events(3))) == [None]
    assert await seqs_of(log, name) == [1, 2, 3]
    assert await seqs_of(log, stays) == [1]


async def test_a_slot_that_moved_is_followed_and_what_was_refused_is_sent_anew(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    name = fresh()
    assert (await log.activate(name)).epoch == 1
    assert await log.commit([Commit(name, 1, events(1, 2))]) == [None]
    before = log.server_of(keys.log(name))
    valkey_cluster.move(keys.log(name))
    assert await log.commit([Commit(name, 1, events(3, 4))]) == [None]
    assert log.server_of(keys.log(name)) is not before, "it is known from now on"
    assert await log.commit([Commit(name, 1, events(5))]) == [None]
    assert await seqs_of(log, name) == [1, 2, 3, 4, 5]


async def test_who_hears_of_a_move_from_another_client_loses_nothing_in_flight(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    name, stays = fresh(), fresh()
    while valkey_cluster.owner(keys.log(stays)) is not valkey_cluster.owner(
        keys.log(name)
    ):
        stays = fresh()
    for each in (name, stays):
        assert (await log.activate(each)).epoch == 1
    valkey_cluster.move(keys.log(name))
    with closing(ValkeyLog(valkey_cluster.url, 1000)) as aside:
        found = await aside.activate(name)
        assert log.lineage_of(keys.log(name)) not in ("", found.lineage)
        flying = asyncio.create_task(log.commit([Commit(stays, 1, events(1))]))
        await asyncio.sleep(0)  # it is sent
        log.follow(keys.log(name), found.lineage, aside.address_of(keys.log(name)))
        said = await log.commit([Commit(name, 2, events(1), found.lineage)])
        assert said == [None], "at once, and not to who had it before"
        assert await flying == [None]


async def test_a_key_that_went_ahead_is_asked_for_where_it_is(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    gone = fresh()
    stays = f"cfm:{{{gone}}}:other"
    await log.activate(gone)
    await log.commit([Commit(gone, 1, events(1))])
    await log.ask("SET", stays, "here")
    source, target = valkey_cluster.importing(keys.log(gone))
    where = log.server_of(keys.log(gone))
    valkey_cluster.migrate(source, target, keys.log(gone))
    # A single XADD, a transaction, a reader; and what has not gone yet.
    assert await log.commit([Commit(gone, 1, events(2))]) == [None]
    assert await log.commit([Commit(gone, 1, events(3, 4))]) == [None]
    assert await log.ask("GET", stays) == b"here"
    assert await seqs_of(log, gone) == [1, 2, 3, 4]
    assert log.server_of(keys.log(gone)) is where, "ASK is for that command alone"
    found = await log.activate(gone)
    assert (found.epoch, found.seq) == (2, 4)
    assert await log.commit([Commit(gone, 1, events(5))]) != [None]
    assert isinstance((await log.commit([Commit(gone, 1, events(5))]))[0], Fenced)
    valkey_cluster.migrate(source, target, stays)
    valkey_cluster.assign(source, target, keys.log(gone))
    assert await log.commit([Commit(gone, 2, events(5))]) == [None]
    assert await seqs_of(log, gone) == [1, 2, 3, 4, 5]


async def test_a_new_object_is_made_where_its_slot_goes(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    name = fresh()
    source, target = valkey_cluster.importing(keys.log(name))
    assert (await log.activate(name)).epoch == 1
    assert await log.commit([Commit(name, 1, events(1, 2))]) == [None]
    await log.save(name, 1, b"mirror", final=True)
    with pytest.raises(valkey.ResponseError, match="ASK"):  # it has none such
        source.do("EXISTS", keys.log(name))
    valkey_cluster.assign(source, target, keys.log(name))
    assert await seqs_of(log, name) == [1, 2]
    assert (await log.activate(name)).mirror is not None


async def test_keys_on_both_sides_are_waited_for_until_they_are_together(
    log: ValkeyLog, valkey_cluster: ValkeyCluster
) -> None:
    tag = uuid.uuid4().hex
    a, b = f"cfm:{{{tag}}}:a", f"cfm:{{{tag}}}:b"
    await log.ask_all(("SET", a, "1"), ("SET", b, "2"))
    source, target = valkey_cluster.importing(a)
    valkey_cluster.migrate(source, target, a)
    tried = _refusals(source)
    waiting = asyncio.create_task(log.multi(a, ("DEL", a, b), ("SET", a, "3")))
    await eventually(lambda: _refusals(source) > tried)  # TRYAGAIN was said
    assert not waiting.done()
    valkey_cluster.migrate(source, target, b)
    async with patience.within(5):
        assert await waiting == [2, b"OK"]
    valkey_cluster.assign(source, target, a)
    assert await log.ask_all(("GET", a), ("GET", b)) == [b"3", None]


async def test_keys_that_stay_on_both_sides_are_refused_at_the_deadline(
    valkey_cluster: ValkeyCluster,
) -> None:
    tag = uuid.uuid4().hex
    a, b = f"cfm:{{{tag}}}:a", f"cfm:{{{tag}}}:b"
    with closing(Valkey(valkey_cluster.url, timeout_s=0.4)) as kv:
        await kv.ask_all(("SET", a, "1"), ("SET", b, "2"))
        source, target = valkey_cluster.importing(a)
        valkey_cluster.migrate(source, target, a)
        watch = Stopwatch()
        with pytest.raises(Refused) as caught:  # it is known: it was not done
            await kv.multi(a, ("DEL", a, b))
        assert str(caught.value.__cause__).startswith("TRYAGAIN")
        assert watch.seconds < 2
        valkey_cluster.migrate(source, target, b)
        valkey_cluster.assign(source, target, a)
        assert await kv.ask_all(("GET", a), ("GET", b)) == [b"1", b"2"]


def _refusals(node: Node) -> int:
    return node.stat("errorstat_TRYAGAIN", "count")


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_written_while_a_slot_moves_is_there_once_and_in_order(
    valkey_cluster: ValkeyCluster, at_once: bool
) -> None:
    """Commits of one and of several, without a pause, while the slot goes round."""
    name, others = fresh(), [fresh() for _ in range(5)]
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as log:
        for each in (name, *others):
            await log.activate(each)
        seq, done = 0, False
        failed: list[Exception] = []

        async def write() -> None:
            nonlocal seq
            chance = random.Random(7)
            while not done:
                batch = events(*range(seq + 1, seq + 1 + chance.randint(1, 4)))
                commits = [Commit(each, 1, batch) for each in (name, *others)]
                if at_once:
                    found = await asyncio.gather(*(begun(log, c) for c in commits))
                    outcomes = [each for (each,) in found]
                else:
                    outcomes = await log.commit(commits)
                failed.extend(each for each in outcomes if each is not None)
                seq += len(batch)

        writing = asyncio.create_task(write())
        for _ in range(4):
            seen = seq
            await asyncio.to_thread(valkey_cluster.move, keys.log(name))
            await eventually(lambda seen=seen: seq >= seen + 20 or writing.done())
        done = True
        async with patience.within(10):
            await writing
        assert failed == []
        for each in (name, *others):
            assert await seqs_of(log, each) == list(range(1, seq + 1))


async def test_an_append_behind_a_later_one_is_refused_wherever_it_goes(
    valkey_cluster: ValkeyCluster,
) -> None:
    """Two activations of one object; the older one's client knows an old map."""
    name = fresh()
    with (
        closing(ValkeyLog(valkey_cluster.url, LENGTH)) as old,
        closing(ValkeyLog(valkey_cluster.url, LENGTH)) as new,
    ):
        await old.activate(name)
        assert await old.commit([Commit(name, 1, events(1))]) == [None]
        valkey_cluster.move(keys.log(name))
        assert (await new.activate(name)).epoch == 2
        assert await new.commit([Commit(name, 2, events(2))]) == [None]
        outcome = (await old.commit([Commit(name, 1, events(2, 3))]))[0]
        assert isinstance(outcome, Fenced)
        await new.save(name, 2, b"new", final=False)
        with pytest.raises(Fenced):
            await old.save(name, 1, b"old", final=True)
        assert await seqs_of(new, name) == [1, 2]


# What is read behind something that had to be sent again.


async def test_what_was_read_too_early_is_read_again(
    valkey_cluster: ValkeyCluster,
) -> None:
    """An epoch whose log has gone ahead, and a mirror that has not: it must not be read
    before the epoch is taken."""
    name = fresh()
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as log:
        await log.activate(name)
        await log.save(name, 1, b"one", final=False)
        source, target = valkey_cluster.importing(keys.log(name))
        valkey_cluster.migrate(source, target, keys.log(name))
        before = _calls(source, "xrevrange")
        found = await log.activate(name)
        assert found.epoch == 2
        assert found.mirror is not None and found.mirror.data == b"one"
        assert _calls(source, "xrevrange") - before == 2, "before, and after"
        valkey_cluster.migrate(source, target, keys.mirror(name))
        valkey_cluster.assign(source, target, keys.log(name))


# The cluster is down, or a primary is.


async def test_a_cluster_that_is_down_is_waited_for(
    valkey_cluster: ValkeyCluster,
) -> None:
    name = fresh()
    owner, slot = valkey_cluster.owner(keys.log(name)), slot_of(keys.log(name))
    with closing(ValkeyLog(valkey_cluster.url, LENGTH)) as log:
        await log.activate(name)
        # With its slot gone every server takes nothing (full coverage is required).
        for node in valkey_cluster.primaries:
            node.do("CLUSTER", "DELSLOTS", slot)
        waiting = asyncio.create_task(log.commit([Commit(name, 1, events(1, 2))]))
        await eventually(lambda: _down(owner))
        assert not waiting.done()
        owner.do("CLUSTER", "ADDSLOTS", slot)
        async with patience.within(10):
            assert await waiting == [None]
        assert await seqs_of(log, name) == [1, 2]


def _down(node: Node) -> bool:
    return node.stat("errorstat_CLUSTERDOWN", "count") > 0


async def test_a_planned_takeover_is_followed_and_loses_nothing(
    replicated: ValkeyCluster,
) -> None:
    with closing(ValkeyLog(replicated.url, LENGTH)) as log:
        names = [fresh() for _ in range(12)]
        for name in names:
            await log.activate(name)
        seq = 0
        for shard in range(3):
            replica = replicated.replicas[shard][0]
            replica.do("CLUSTER", "FAILOVER")
            watch = Stopwatch()
            while not replica.primary:
                seq += 1
                commits = [Commit(name, 1, events(seq)) for name in names]
                assert await log.commit(commits) == [None] * len(names)
                assert watch.seconds < 20
            seq += 1
            commits = [Commit(name, 1, events(seq)) for name in names]
            assert await log.commit(commits) == [None] * len(names)
        for name in names:
            assert await seqs_of(log, name) == list(range(1, seq + 1))
        for shard in range(3):
            primary, replica = replicated.primaries[shard], replicated.replicas[shard]
            replicated.primaries[shard], replicated.replicas[shard] = (
                replica[0],
                [primary],
            )


async def test_a_killed_primary_is_one_shards_trouble_and_its_replica_goes_on(
    replicated: ValkeyCluster,
) -> None:
    with closing(ValkeyLog(replicated.url, LENGTH)) as log:
        names = [fresh() for _ in range(12)]
        dead = replicated.owner(keys.log(names[0]))
        theirs = [n for n in names if replicated.owner(keys.log(n)) is dead]
        others = [n for n in names if n not in theirs]
        assert others
        for name in names:
            await log.activate(name)
        commits = [Commit(name, 1, events(1)) for name in names]
        assert await log.commit(commits) == [None] * len(names)
        watch = Stopwatch()
        dead.kill()
        # What is for the others is done at once, whatever becomes of the rest.
        assert await log.commit([Commit(n, 1, events(2)) for n in others]) == (
            [None] * len(others)
        )
        assert watch.seconds < 1
        outcomes = await log.commit([Commit(n, 1, events(2)) for n in theirs])
        for name, outcome in zip(theirs, outcomes, strict=True):
            if outcome is not None:  # its outcome is unknown: an epoch settles it
                assert isinstance(outcome, Unavailable)
                found = await log.activate(name)
                again = [seq for seq in (2,) if seq > found.seq]
                if again:
                    commit = Commit(name, found.epoch, events(*again))
                    assert await log.commit([commit]) == [None]
        assert watch.seconds < 6
        for name in names:
            assert await seqs_of(log, name) == [1, 2]
    await asyncio.to_thread(replicated.restart, dead)


@pytest.mark.parametrize("waits", [True, False])
async def test_an_unknown_outcome_is_never_sent_again(
    replicated: ValkeyCluster, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """The server takes a write, and is killed before it answers."""
    key = f"cfm:test:{uuid.uuid4().hex}"
    owner = replicated.owner(key)
    sent: list[bytes] = []
    send, begin = Server.send, Server.begin

    async def watched(
        self: Server, packed: bytes, *more: Any, **how: Any
    ) -> list[object]:
        sent.append(packed)
        return await send(self, packed, *more, **how)

    def seen(self: Server, packed: bytes, *more: Any) -> bool:
        sent.append(packed)
        self._look_at = math.inf
        return begin(self, packed, *more)

    monkeypatch.setattr(Server, "send", watched)
    monkeypatch.setattr(Server, "begin", seen)
    cluster = Cluster(replicated.url, 5.0)
    await cluster.send([Part("cfm:x", pack([("GET", "cfm:x")]), 1)])
    await cluster.send([Part(key, pack([("GET", key)]), 1)])
    owner.freeze()
    word = uuid.uuid4().hex
    command = pack([("SET", key, word)])
    part, told = Part(key, command, 1), asyncio.get_running_loop().create_future()
    if waits:
        writing: Any = asyncio.create_task(cluster.send([part]))
    else:
        assert cluster.begin([part], 5.0, "", told.set_result)
        writing = told
    await eventually(lambda: any(command in packed for packed in sent))
    owner.kill()
    (outcome,) = await writing
    assert type(outcome).__name__ == "UnknownOutcome"
    # The map is looked at again by itself, and the next goes to the one that took over.
    (found,) = await cluster.send([Part(key, pack([("GET", key)]), 1, True)])
    assert found is None or found == word.encode() or isinstance(found, Unavailable)
    assert sum(command in packed for packed in sent) == 1
    cluster.close()
    await asyncio.to_thread(replicated.restart, owner)


# What is published.


async def test_a_channel_to_one_is_its_servers_alone_and_others_are_everybodys(
    valkey_cluster: ValkeyCluster, log: ValkeyLog
) -> None:
    own = keys.gateway_channel(uuid.uuid4().hex)
    async with aclosing(log.listen("cfm:revoked", own=own)) as heard:
        assert await anext(heard) is None
        assert await log.ask(*log.to_one(own, "woke")) == 1
        assert await anext(heard) == (own, "woke")
        # From a server that is not the listener's.
        valkey_cluster.other(own).do("PUBLISH", "cfm:revoked", "login")
        assert await anext(heard) == ("cfm:revoked", "login")
        owner = valkey_cluster.owner(own)
        assert owner.do("PUBSUB", "SHARDCHANNELS", own) == [own.encode()]


async def test_listening_ends_when_its_channel_moves_and_begins_where_it_is(
    valkey_cluster: ValkeyCluster, log: ValkeyLog
) -> None:
    own = keys.gateway_channel(uuid.uuid4().hex)
    async with aclosing(log.listen("cfm:revoked", own=own)) as heard:
        assert await anext(heard) is None
        valkey_cluster.move(own)
        with pytest.raises(Unavailable):
            async with patience.within(5):
                await anext(heard)
    for _ in range(20):  # who listened before may be sent on once more
        try:
            async with aclosing(log.listen("cfm:revoked", own=own)) as heard:
                assert await anext(heard) is None
                assert await log.ask(*log.to_one(own, "woke")) == 1
                assert await anext(heard) == (own, "woke")
                return
        except Unavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("nobody is heard where the channel is now")


# The URL.


@pytest.mark.parametrize(
    "url",
    [
        *("valkey-cluster://", "valkey-cluster://h:x", "valkey-cluster://h:0"),
        *("valkey-cluster://h:70000", "valkey-cluster://a,,b", "valkey-cluster://h/1"),
        *("valkey-cluster://h?db=1", "valkey-cluster://h?timeout=1"),
    ],
)
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValueError):
        Valkey(url)
