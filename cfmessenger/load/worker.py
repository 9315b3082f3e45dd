"""A worker: one process, one loop, its part of the sockets.

`work` is the whole life of one, over any `Channel`; `python -m cfmessenger.load.worker`
is one whose channel is its standard input and output. It ends with its channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

import uvloop

from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.link.framing import read_frame

from . import desk
from .crew import Crew, hint
from .gateway_target import GatewayCarrier
from .lines import Carrier
from .oracle import judge
from .result import Phase, Progress
from .scenario import find
from .scenario.times import Times
from .ticker import now

BEAT_S = 0.05
DRAIN_LIMIT_S = 60.0


Order = TypeVar("Order", bound=desk.ToWorker)


class Channel(Protocol):
    """To whoever runs the test and back."""

    async def send(self, message: desk.FromWorker) -> None: ...

    async def receive(self) -> desk.ToWorker:
        """Raises EOFError when nobody is there any more."""


async def work(channel: Channel) -> None:
    """Do one `Job`. Raises EOFError when the channel ends first."""
    job = await channel.receive()
    assert isinstance(job, desk.Job)
    worker = Worker(channel, job)
    try:
        await worker.run()
    except (ApiError, Unreachable) as error:
        text = f"{error.message}{hint(error.code)}"
        await _fail(channel, desk.Failed(text))
    except EOFError:
        raise
    except Exception as error:
        traceback.print_exc()
        text = f"bug in the load harness: {error!r}"
        await _fail(channel, desk.Failed(text, unreachable=False))
    finally:
        await worker.crew.lines.aclose()


async def _fail(channel: Channel, failed: desk.Failed) -> None:
    await channel.send(failed)
    with contextlib.suppress(EOFError):
        while True:  # it has arrived when nobody is there any more
            await channel.receive()


class Worker:
    """One job from the first socket to the last figure."""

    def __init__(self, channel: Channel, job: desk.Job) -> None:
        self.plan = job.plan
        self.part = job.part
        self.crew = Crew(job.plan, job.part, job.people, _carrier(job))
        self._channel = channel
        self._orders: asyncio.Queue[desk.ToWorker] = asyncio.Queue()
        self._phase: Phase = "connecting"
        self._phase_began = now()
        self._phase_s = 0.0
        self._reasons: list[str] = []
        self._seconds = 0  # of the measurement
        self._ticks = 0

    async def run(self) -> None:
        """Raises `ApiError` or `Unreachable` when the sockets are not to be had, and
        EOFError when nobody waits for the figures any more."""
        tasks = [
            asyncio.create_task(work())
            for work in (self._listen, self._job, self._beat, self._report)
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            self._orders.put_nowait(await self._channel.receive())

    async def _expect(self, kind: type[Order]) -> Order:
        message = await self._orders.get()
        assert isinstance(message, kind), message
        return message

    async def _job(self) -> None:
        allow_files(len(self.part.places))
        crew = self.crew
        scenario = find(self.plan.scenario)
        await crew.lines.carrier.start()
        await scenario.connect(crew)
        await self._channel.send(desk.Ready(os.getpid(), platform.node()))
        await self._expect(desk.Go)
        times = Times(self.plan, now())
        crew.talk.measure_at = times.measure_at
        self._enter("warm-up", self.plan.warmup_s)
        await scenario.run(crew, times)
        times.measure(crew)
        crew.meter.strain.end()
        self._enter("draining", 0.0)
        await self._quiet(lambda: not crew.talk.unanswered())
        measured_s = self._measured_s(times)
        tops = {room.name: room.top for room in crew.rooms.values()}
        await self._channel.send(desk.Stopped(tops))
        settle = await self._expect(desk.Settle)
        await self._quiet(lambda: crew.settled(settle.tops))
        if crew.broken is not None:
            raise crew.broken
        await self._channel.send(self._home(settle.tops, measured_s))
        await self._expect(desk.Leave)

    # How it goes.

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase, self._phase_began, self._phase_s = phase, now(), seconds

    async def _beat(self) -> None:
        while True:
            due = now() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.crew.meter.strain.loop_late(max(0.0, now() - due))

    async def _report(self) -> None:
        meter, due = self.crew.meter, now()
        while True:
            due += 1.0
            while (left := due - now()) > 0:
                await asyncio.sleep(left)
                if meter.measuring:  # seconds of the measurement, from its beginning
                    due = max(due, meter.began + self._seconds + 1)
            for room in self.crew.rooms.values():
                room.prune()
            await self._channel.send(desk.Report(self._progress()))

    def _progress(self) -> Progress:
        meter = self.crew.meter
        if meter.measuring and self._phase == "warm-up":
            self._enter("measuring", self.plan.duration_s)
        phase = self._phase
        if meter.measuring and self._seconds < self.plan.duration_s - 0.5:
            phase = "measuring"  # the second that is told of, not the moment
        second, acks = meter.second(self._seconds if meter.measuring else self._ticks)
        self._seconds += meter.measuring
        self._ticks += 1
        if self._phase == "connecting":
            done = meter.sockets / len(self.part.places)
        else:
            spent = now() - self._phase_began
            done = min(1.0, spent / self._phase_s) if self._phase_s else 1.0
        return Progress(
            worker=self.part.worker,
            second=second,
            counts=dict(meter.counts),
            histogram=acks,
            phase=phase,
            done=round(done, 3),
        )

    # After the last message.

    async def _quiet(self, done: Callable[[], bool]) -> None:
        """Until that, or what is missing will not come any more."""
        began = heard_at = now()
        seen = self._progress_mark()
        while not done():
            await asyncio.sleep(0.005)
            if (mark := self._progress_mark()) != seen:
                seen, heard_at = mark, now()
            if now() - heard_at > self.plan.quiet_s:
                return
            if now() - began > DRAIN_LIMIT_S:
                self._reasons.append(
                    f"the server was {DRAIN_LIMIT_S:g} s behind and still delivering"
                )
                return

    def _progress_mark(self) -> int:
        meter = self.crew.meter
        tallies = (meter.delivery, meter.foreign, meter.ack, meter.warm_delivery)
        return sum(map(len, tallies)) + meter.counts["delivered"]

    def _measured_s(self, times: Times) -> float:
        end = times.stopped_at if self.crew.talk.unanswered() else now()
        return max(1e-3, end - self.crew.meter.began)

    def _home(self, tops: dict[str, int], measured_s: float) -> desk.Home:
        crew, rooms = self.crew, list(self.crew.rooms.values())
        crew.meter.second(self._seconds, last=True)
        share = crew.meter.share(self.part.worker)
        share.oracle = judge(rooms, tops)
        silent = [sent for sent in crew.talk.unanswered() if sent.seat.in_room]
        if silent:
            share.oracle.lost += len(silent)
            share.oracle.examples.append(
                f"{silent[0].seat.room.name}: {len(silent)} messages were neither "
                "echoed nor refused"
            )
        share.health = crew.meter.strain.health(self._reasons)
        return desk.Home(share, [room.evidence() for room in rooms], measured_s)


def _carrier(job: desk.Job) -> Carrier:
    plan = job.plan
    if plan.target == "gateway":
        return GatewayCarrier(
            plan.url,
            job.people,
            lambda room: "" if room == plan.hot_room else plan.calm_url,
        )
    from .actor_target import ActorCarrier  # only then: it brings a Valkey client

    gateway = f"load-{plan.run}-{job.part.worker}"
    return ActorCarrier(gateway, plan.namespace, job.namespace_key, job.valkey_url)


def allow_files(sockets: int) -> None:
    """Raise the limit of open files as far as it goes. Raises `Unreachable`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + 200
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Unreachable(
            f"{sockets} sockets need {wanted} open files and the limit is {hard}: "
            "ulimit -n, or more --workers"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Pipes:
    """A `Channel` over two streams."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: desk.FromWorker) -> None:
        self._writer.write(desk.frame(message))

    async def receive(self) -> desk.ToWorker:
        return desk.to_worker.decode(await read_frame(self._reader, desk.MAX_FRAME))


async def main() -> None:
    """A worker on standard input and output; whatever is printed goes to stderr."""
    loop = asyncio.get_running_loop()
    out = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=desk.MAX_FRAME)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", 0)
    )
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, out)
    await work(Pipes(reader, writer))
    writer.close()


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except EOFError:
        sys.exit(1)
