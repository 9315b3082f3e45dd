"""Group commit: one pipeline in flight, and each object hears its own outcome."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from actors.committer import Committer
from actors.turn import Turn
from cfmessenger.background import Background
from cfmessenger.storage.log import Commit, Fenced, Log, Told, ValkeyLog
from cfmessenger.storage.valkey import UnknownOutcome
from tests.actors.scene import fresh_room, until
from tests.valkey_proxy import Proxy


class Reports:
    """Collects the outcomes, in the order they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[Commit, Exception | None]] = []
        self.news = asyncio.Event()

    def __call__(self, commit: Commit, problem: Exception | None) -> None:
        self.told.append((commit, problem))
        self.news.set()

    def of(self, name: str) -> list[Exception | None]:
        return [problem for commit, problem in self.told if commit.name == name]

    async def until(self, count: int) -> None:
        await until(lambda: len(self.told) >= count, self.news)


@pytest.fixture
async def log(proxy: Proxy) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(proxy.url, 1000)
    yield log
    log.close()


def committer_of(log: object) -> Committer:
    return Committer(cast(Log, log), Turn(asyncio.get_running_loop()))


def one(name: str, seq: int = 1, epoch: int = 1) -> Commit:
    return Commit(name, epoch, [(seq, b"{}")])


async def test_all_that_comes_in_one_turn_is_one_pipeline(
    proxy: Proxy, log: ValkeyLog
) -> None:
    names = [fresh_room() for _ in range(30)]
    committer, reports = committer_of(log), Reports()
    for name in names:
        committer.add(one(name), reports)
    await reports.until(30)
    assert len(proxy.appends) == 1
    assert [problem for _, problem in reports.told] == [None] * 30


async def test_what_comes_in_flight_is_the_next_pipeline(
    proxy: Proxy, log: ValkeyLog
) -> None:
    name, others = fresh_room(), [fresh_room() for _ in range(5)]
    committer, reports = committer_of(log), Reports()
    await log.epoch(name)
    proxy.stall()
    committer.add(one(name), reports)
    await proxy.until_kept()
    for other in others:
        committer.add(one(other), reports)
    committer.add(one(name, 2), reports)
    await asyncio.sleep(0)
    assert (len(proxy.appends), reports.told) == (1, [])
    proxy.flow()
    await reports.until(7)
    assert len(proxy.appends) == 2
    assert [c.name for c, _ in reports.told] == [name, *others, name]


async def test_a_refusal_is_told_to_its_object_alone(log: ValkeyLog) -> None:
    names = [fresh_room() for _ in range(9)]
    loser = names[4]
    for _ in range(2):
        await log.activate(loser)
    committer, reports = committer_of(log), Reports()
    for name in names:
        committer.add(one(name), reports)
    await reports.until(9)
    for name in names:
        (problem,) = reports.of(name)
        assert isinstance(problem, Fenced) if name == loser else problem is None


async def test_an_unknown_outcome_is_told_to_all_in_the_pipeline_and_no_other(
    proxy: Proxy, log: ValkeyLog
) -> None:
    first, second, later = fresh_room(), fresh_room(), fresh_room()
    committer, reports = committer_of(log), Reports()
    await log.epoch(first)
    proxy.stall()
    committer.add(one(first), reports)
    committer.add(one(second), reports)
    await proxy.until_kept()
    committer.add(one(later), reports)
    proxy.cut()
    proxy.flow()
    await reports.until(3)
    assert isinstance(reports.of(first)[0], UnknownOutcome)
    assert isinstance(reports.of(second)[0], UnknownOutcome)
    assert reports.of(later) == [None]


async def test_an_object_that_cannot_go_on_stops_nobody(log: ValkeyLog) -> None:
    def fail(commit: Commit, problem: Exception | None) -> None:
        raise RuntimeError("a bug of this object")

    committer, reports = committer_of(log), Reports()
    names = [fresh_room() for _ in range(3)]
    committer.add(one(names[0]), reports)
    committer.add(one(names[1]), fail)
    committer.add(one(names[2]), reports)
    await reports.until(2)
    committer.add(one(names[1], 2), reports)
    await reports.until(3)
    assert [problem for _, problem in reports.told] == [None] * 3


class Faulty:
    """A log with a bug in it."""

    def lane(self, name: str) -> None:
        return None

    def begin_commit(self, commits: Sequence[Commit], told: Told) -> None:
        if commits[0].name == "bad":
            raise RuntimeError("a bug of the log")
        told([None] * len(commits))


class Lanes:
    """A log on two servers, each of which answers when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.answers = {"a": asyncio.Event(), "b": asyncio.Event()}
        self._working = Background()

    def lane(self, name: str) -> str:
        return name[0]

    def begin_commit(self, commits: Sequence[Commit], told: Told) -> None:
        names = [commit.name for commit in commits]
        self.sent.append(names)
        self._working.begin(self._answer(names, told))

    async def _answer(self, names: Sequence[str], told: Told) -> None:
        await self.answers[names[0][0]].wait()
        told([None] * len(names))


async def test_who_is_on_one_server_does_not_wait_for_another() -> None:
    log = Lanes()
    committer, reports = committer_of(log), Reports()
    for name in ("a1", "b1", "a2", "b2"):
        committer.add(one(name), reports)
    await asyncio.sleep(0)
    assert log.sent == [["a1", "a2"], ["b1", "b2"]]
    log.answers["b"].set()
    await reports.until(2)
    for name in ("a3", "b3", "a4"):
        committer.add(one(name), reports)
    await reports.until(3)
    assert [commit.name for commit, _ in reports.told] == ["b1", "b2", "b3"]
    log.answers["a"].set()
    await reports.until(7)
    assert log.sent[2:] == [["b3"], ["a3", "a4"]], "one pipeline of each in flight"


async def test_a_bug_in_the_log_stops_nobody_for_ever() -> None:
    committer, reports = committer_of(Faulty()), Reports()
    committer.add(one("bad"), reports)
    await reports.until(1)
    assert isinstance(reports.told[0][1], RuntimeError)
    committer.add(one("good"), reports)
    await reports.until(2)
    assert reports.of("good") == [None]


async def test_everything_added_is_reported_once(log: ValkeyLog) -> None:
    committer, reports = committer_of(log), Reports()
    names = [fresh_room() for _ in range(40)]
    for seq in range(1, 6):
        for name in names:
            committer.add(one(name, seq), reports)
        await asyncio.sleep(0)
    await reports.until(200)
    assert len(reports.told) == 200
    for name in names:
        seqs = [c.events[0][0] for c, _ in reports.told if c.name == name]
        assert seqs == [1, 2, 3, 4, 5]
        assert [e.seq for e in await log.after(name, 0, 9)] == seqs
