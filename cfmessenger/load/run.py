"""A whole load test, seen from the one who runs it: workers in step, one result.

Owns the order of things: check the target, start the workers, wait until everybody is
connected, let them go, wait until the last has stopped and all have settled, add up.
How workers are started is a `Launcher`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, Protocol, TypeVar

import msgspec

from cfmessenger.client.errors import ClientError
from cfmessenger.client.session import Client

from . import desk, oracle, people
from .crew import hint
from .gateway_target import try_room
from .machine import Usage, Watch, cost, this_host, versions
from .plan import Plan, parts
from .result import MAX_EXAMPLES, Oracle, Progress, Result, merge

SETTLE_S = 90.0
GRACE_S = 30.0


class Failure(Exception):
    """The test could not be carried out; the text says why, in one line.

    `unreachable`: because of the target.
    """

    def __init__(self, message: str, *, unreachable: bool = True) -> None:
        super().__init__(message)
        self.unreachable = unreachable


class Worker(Protocol):
    """A worker as its runner sees it."""

    async def send(self, message: desk.ToWorker) -> None: ...

    async def receive(self) -> desk.FromWorker:
        """Raises EOFError when it is gone."""


class Launcher(Protocol):
    """How workers come to be."""

    kind: Literal["local", "ray"]

    def launch(
        self, count: int
    ) -> contextlib.AbstractAsyncContextManager[Sequence[Worker]]:
        """That many workers, gone at the end."""


class Wishes(msgspec.Struct, kw_only=True):
    """What else there is to say about a run, which workers need not know.

    `users`: whose sockets (empty: the directory's); `sessions`: instead of logging in;
    `procs`: a pattern of the server's command lines. The last two are for actors and
    may be secret.
    """

    users: list[str] = []
    sessions: list[str] = []
    procs: str | None = None
    namespace_key: str = ""
    valkey_url: str = ""


Message = TypeVar("Message", bound=desk.FromWorker)


async def run(
    plan: Plan,
    wishes: Wishes,
    launcher: Launcher,
    *,
    tell: Callable[[str], None],
    show: Callable[[Progress], None],
) -> Result:
    """The result of a plan. Raises `Failure`.

    `tell` gets a line now and then; `show` the progress of each worker, each second.
    """
    watch = None if wishes.procs is None else Watch(wishes.procs)
    try:
        async with AsyncExitStack() as stack:
            crowd = await stack.enter_async_context(_crowd(plan, wishes, tell))
            workers = await stack.enter_async_context(launcher.launch(plan.workers))
            job = _Run(plan, workers, watch, show)
            return await job.run(crowd, wishes, launcher.kind)
    except ClientError as error:
        raise Failure(f"{error.message}{hint(error.code)}") from None


@asynccontextmanager
async def _crowd(
    plan: Plan, wishes: Wishes, tell: Callable[[str], None]
) -> AsyncIterator[list[desk.Person]]:
    """The people, logged in and let into a room as long as this is open."""
    if plan.target == "actors":
        yield people.strangers(plan.sockets)
        return
    async with Client(plan.url) as client:
        if wishes.sessions:
            sessions = await people.presented(client, wishes.sessions)
        else:
            sessions = await people.log_in(client, wishes.users, plan.sockets, tell)
        for url in filter(None, (plan.url, plan.calm_url)):
            await try_room(url, plan.tried_room, sessions[0].session_id)
        keeping = asyncio.create_task(people.keep(sessions))
        try:
            yield people.people(sessions)
        finally:
            keeping.cancel()
            if not wishes.sessions:
                for session in sessions:
                    with contextlib.suppress(ClientError):
                        await session.logout()


class _Run:
    def __init__(
        self,
        plan: Plan,
        workers: Sequence[Worker],
        watch: Watch | None,
        show: Callable[[Progress], None],
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._watch = watch
        self._show_progress = show

    async def run(
        self, crowd: list[desk.Person], wishes: Wishes, kind: Literal["local", "ray"]
    ) -> Result:
        plan, workers = self._plan, self._workers
        empty = self._look()
        for worker, part in zip(workers, parts(plan), strict=True):
            keys = (wishes.namespace_key, wishes.valkey_url)
            await worker.send(desk.Job(plan, part, crowd, *keys))
        ready = await self._all(desk.Ready, plan.connect_s)
        if self._watch is not None:
            self._watch.leave_out({each.pid for each in ready})
        started = datetime.datetime.now(datetime.UTC)
        await self._tell_all(desk.Go())
        looks = [
            asyncio.create_task(self._look_after(seconds))
            for seconds in (plan.warmup_s, plan.warmup_s + plan.duration_s)
        ]
        try:
            stopped = await self._all(desk.Stopped, plan.run_s + SETTLE_S + GRACE_S)
            before, end = [self._by_now(look) for look in looks]
        finally:
            for look in looks:
                look.cancel()
        tops: dict[str, int] = {}
        for each in stopped:
            for room, top in each.tops.items():
                tops[room] = max(top, tops.get(room, 0))
        await self._tell_all(desk.Settle(tops))
        homes = await self._all(desk.Home, SETTLE_S)
        after = self._look()
        await self._tell_all(desk.Leave())

        merged = merge([home.share for home in homes])
        _add(merged.oracle, oracle.compare([e for h in homes for e in h.evidence]))
        # Workers that share a room each count it.
        merged.oracle.checked_rooms = len({e.room for h in homes for e in h.evidence})
        measured_s = max(home.measured_s for home in homes)
        counts = merged.counts
        result = Result(
            scenario=plan.scenario,
            target=plan.target,
            url=plan.url if plan.target == "gateway" else plan.namespace,
            started_at=started.isoformat(timespec="seconds"),
            duration_s=round(measured_s, 3),
            warmup_s=plan.warmup_s,
            workers=plan.workers,
            worker_kind=kind,
            worker_hosts=dict(Counter(each.host for each in ready)),
            settings=msgspec.to_builtins(plan),
            host=this_host(),
            versions=versions(),
            counts=counts,
            rates={
                name: round(counts.get(name, 0) / measured_s, 1)
                for name in ("sent", "acked", "delivered")
            },
            histograms=merged.histograms,
            series=merged.series,
            oracle=merged.oracle,
            health=merged.health,
        )
        if empty and before and end and after:
            result.server = cost(
                empty,
                before,
                end,
                after,
                sockets=plan.sockets,
                come_late=plan.comes_late,
                sent=counts.get("sent", 0),
                delivered=counts.get("delivered", 0),
            )
        return result

    def _look(self) -> Usage | None:
        return None if self._watch is None else self._watch.look()

    async def _look_after(self, seconds: float) -> Usage | None:
        await asyncio.sleep(seconds)
        return self._look()

    def _by_now(self, look: asyncio.Task[Usage | None]) -> Usage | None:
        """What was seen at its time; if the load was over before that, what is now."""
        return look.result() if look.done() else self._look()

    async def _tell_all(self, message: desk.ToWorker) -> None:
        for worker in self._workers:
            await worker.send(message)

    async def _all(self, kind: type[Message], within_s: float) -> list[Message]:
        """The same answer of every worker; progress on the way is shown."""
        try:
            async with asyncio.timeout(within_s):
                return list(
                    await asyncio.gather(*(self._one(w, kind) for w in self._workers))
                )
        except TimeoutError:
            raise Failure(f"a worker did not get to {kind.__name__} in time") from None

    async def _one(self, worker: Worker, kind: type[Message]) -> Message:
        while True:
            try:
                message = await worker.receive()
            except EOFError:
                raise Failure("a worker ended early", unreachable=False) from None
            if isinstance(message, desk.Report):
                self._show_progress(message.progress)
            elif isinstance(message, desk.Failed):
                raise Failure(message.message, unreachable=message.unreachable)
            else:
                assert isinstance(message, kind), message
                return message


def _add(to: Oracle, more: Oracle) -> None:
    to.duplicated += more.duplicated
    to.examples = (to.examples + more.examples)[:MAX_EXAMPLES]
