"""`python -m tests.bench.online`: thousands online, some of whom change, who then all
come back at once; on real sockets.

Starts a messenger of its own whose users are as many as come (limits lifted), signs
them in, and gives each one presence socket, which watches some others. Then `--churn`
percent of them in a minute change: half their status, half leave and return. Then every
socket is closed at once, and all dial again. For each of the three prints how long it
took until the last knew who is there, what each socket was sent, what CPU each kind of
process took, and what they hold. `presence.py` plays the same without sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.bench import machine
from tests.bench.loader import STEP_S
from tests.bench.meter import KINDS, Meter, our_kind
from tests.bench.ours import log_in, presence_urls, up

TOLD_S = 6.0
"""After the last has come: by then everybody is told."""
_SYNC = b'{"type":"presence_full_sync"'
STATUSES = ("away", "busy", "online")


class Onlooker(WSListener):
    """Somebody's presence socket, which counts what it is sent."""

    def __init__(self, crowd: Crowd, watches: bytes) -> None:
        self.frames = self.bytes = 0
        self.dialled = time.perf_counter()
        self.in_at = 0.0  # from its first full sync on
        self.transport: WSTransport | None = None  # from the end of its handshake
        self.ended = asyncio.Event()
        self._crowd = crowd
        self._watches = watches

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.send(WSMsgType.TEXT, self._watches)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_memoryview()
        self.frames += 1
        self.bytes += len(payload)
        if not self.in_at and bytes(payload[: len(_SYNC)]) == _SYNC:
            self.in_at = time.perf_counter()
            self._crowd.came()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.ended.set()


class Crowd:
    """All of them, each at its place. `missing`: how many are not in."""

    def __init__(self, urls: Sequence[str], watches: Sequence[bytes]) -> None:
        self.urls, self.watches = urls, watches
        self.here: list[Onlooker | None] = [None] * len(urls)
        self.gone: list[Onlooker] = []  # of this phase, who left by themselves
        self.missing = 0
        self.refused: Counter[str] = Counter()
        self.full = asyncio.Event()  # while nobody is missing

    def came(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.full.set()

    async def come(self, n: int, at: float) -> None:
        """Number n dials at this time."""
        await asyncio.sleep(at - time.perf_counter())
        one = self.here[n] = Onlooker(self, self.watches[n])
        try:
            await ws_connect(
                lambda: one,
                self.urls[n],
                websocket_handshake_timeout=STEP_S,
                read_buffer_init_size=4096,
            )
        except Exception as error:  # counted: whoever did not come in is a finding
            self.refused[repr(error)[:80]] += 1

    async def all_come(self, within_s: float) -> float:
        """All dial within so many seconds; how long until the last was in."""
        self.missing = len(self.urls)
        self.full.clear()
        began = time.perf_counter()
        step = within_s / len(self.urls)
        coming = [self.come(n, began + n * step) for n in range(len(self.urls))]
        await asyncio.gather(*coming)
        try:
            async with asyncio.timeout(STEP_S):
                await self.full.wait()
        except TimeoutError:
            sys.stderr.write(f"{self.missing} are not in: {dict(self.refused)}\n")
        return max(one.in_at for one in self.here if one) - began

    async def all_leave(self) -> None:
        """Every connection is dropped, as when a balancer dies."""
        leaving = [one for one in self.here if one and one.transport]
        for one in leaving:
            assert one.transport is not None
            one.transport.disconnect(graceful=False)
        await asyncio.gather(*(one.ended.wait() for one in leaving))

    async def leave(self, n: int) -> None:
        """Number n leaves, and is seen to."""
        one = self.here[n]
        if one is not None and one.transport is not None:
            one.transport.disconnect()
            await one.ended.wait()
            self.gone.append(one)

    def say(self, n: int, frame: bytes) -> None:
        """Number n says this."""
        one = self.here[n]
        if one is not None and one.transport is not None:
            one.transport.send(WSMsgType.TEXT, frame)

    def begin(self) -> None:
        """Count anew."""
        self.gone.clear()
        for one in self.here:
            if one is not None:
                one.frames = one.bytes = 0


async def churn(crowd: Crowd, share: float, seconds: float, seed: int) -> int:
    """That share of the people a minute, for so long; how many changed."""
    rng, people = random.Random(seed), len(crowd.urls)
    changes = round(people * share * seconds / 60)
    began, returning = time.perf_counter(), []
    for k in range(changes):
        await asyncio.sleep(began + k * seconds / changes - time.perf_counter())
        n = rng.randrange(people)
        if k % 2:
            status = rng.choice(STATUSES)
            crowd.say(n, b'{"type":"presence_update","status":"%s"}' % status.encode())
            continue
        await crowd.leave(n)
        crowd.missing += 1
        returning.append(
            asyncio.create_task(crowd.come(n, time.perf_counter() + rng.random()))
        )
    await asyncio.gather(*returning)
    return changes


class Report:
    """Lines of one phase each: what sockets were sent, and what it cost."""

    def __init__(self, meter: Meter, crowd: Crowd) -> None:
        self._meter, self._crowd = meter, crowd
        self._before = meter.read()

    def line(self, phase: str, took: str) -> str:
        """Of what happened since the line before."""
        crowd, now = self._crowd, self._meter.read()
        spent, self._before = now.spent_s(self._before), now
        every = [*crowd.gone, *(one for one in crowd.here if one is not None)]
        frames = [one.frames for one in every]
        sizes = [one.bytes / 1024 for one in every]
        closed = sum(one is not None and one.ended.is_set() for one in crowd.here)
        cpu = ", ".join(f"{kind} {spent.get(kind, 0.0):.1f}" for kind in KINDS)
        kib = {kind: self._meter.private_kib(kind) / 1024 for kind in KINDS}
        memory = ", ".join(f"{kind} {mib:.0f}" for kind, mib in kib.items())
        text = (
            f"{phase}: {took}; a socket {statistics.mean(frames):.1f} frames (max "
            f"{max(frames)}), {statistics.mean(sizes):.1f} KiB (p99 "
            f"{statistics.quantiles(sizes, n=100)[98]:.1f}, max {max(sizes):.1f}), "
            f"in all {sum(sizes) / 1024:.1f} MiB; {closed} closed, "
            f"{sum(crowd.refused.values())} refused {dict(crowd.refused) or ''}; CPU "
            f"s {cpu}; MiB {memory}"
        )
        crowd.begin()
        return text


async def measure(options: argparse.Namespace) -> None:
    people = options.people
    async with up("auto", people, CFM_GATEWAYS=str(options.gateways)) as it:
        tokens = await asyncio.to_thread(log_in, it.base, people)
        url = presence_urls(it.base, tokens)
        crowd = Crowd(
            [url(n) for n in range(people)], _watches(people, options.watched)
        )
        await _play(crowd, Meter([it.row.pid], our_kind), options)


def _watches(people: int, each: int) -> list[bytes]:
    """Whom everybody watches: some who come before and some who come after."""
    rng, said = random.Random(people), []
    for _ in range(people):
        others = [f"user_{rng.randrange(people) + 1}" for _ in range(each)]
        said.append(json.dumps({"type": "watch", "userIds": others}).encode())
    return said


async def _play(crowd: Crowd, meter: Meter, options: argparse.Namespace) -> None:
    def tell(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    report = Report(meter, crowd)
    in_s = await crowd.all_come(options.within)
    await asyncio.sleep(TOLD_S)
    tell(report.line("all come", f"the last is in after {in_s:.1f} s"))
    n = await churn(crowd, options.churn / 100, options.seconds, options.people)
    await asyncio.sleep(TOLD_S)
    tell(report.line("churn", f"{n} changes in {options.seconds:.0f} s"))
    await crowd.all_leave()
    in_s = await crowd.all_come(options.within)
    await asyncio.sleep(TOLD_S)
    tell(report.line("all come back", f"the last is in after {in_s:.1f} s"))
    await crowd.all_leave()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.online", None, __doc__)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--within", type=float, default=10.0)
    parser.add_argument("--watched", type=int, default=20)
    parser.add_argument("--churn", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gateways", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(f"{machine.facts()}\n")
    asyncio.run(measure(options))


if __name__ == "__main__":
    main()
