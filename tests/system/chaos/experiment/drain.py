"""SIGTERM on one of two gateways: not ready first, 1012 in batches, rooms live on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter

import httpx2

from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import Scene, scene

ROOMS = 4
SEATS = 20


async def run(seed: int) -> bool:
    async with scene(ROOMS * SEATS // 2, seed, CFM_GATEWAYS="2") as s:
        for number in range(ROOMS * SEATS):
            name = f"c{number}"
            await s.chatter(name, number // 2, f"room-{number % ROOMS}")
        await s.connected()
        before = await s.split()
        s.say(f"{len(s.chatters)} sockets on {before}, 100 msg/s")
        talk = s.talk(s.chatters, 100.0)
        await asyncio.sleep(3.0)
        pids = {each.name: each.pid for each in await s.messenger.rooms()}
        gateways = s.messenger.gateways()
        name = max(before, key=lambda key: before[key])
        row = gateways[name]
        on_it = s.on(s.messenger.ports(row))
        probes: list[tuple[float, int]] = []
        async with _pinned(s, row.pid) as http:
            t = time.monotonic()
            s.messenger.send(row, signal.SIGTERM)
            sockets = [f"{e.name}/{e.socket}" for e in on_it]
            s.history.add(h.Fault(t, t, "drain-gateway", name, [], sockets))
            gone = await _watch(s, http, row.pid, t, probes)
        await asyncio.sleep(4.0)
        talk.cancel()
        s.expect(await s.settled(), "not everything was answered")
        await s.read_logs()
        _say(s, t, gone, probes, len(on_it))
        after = {each.name: each.pid for each in await s.messenger.rooms()}
        same = sum(after.get(k) == pid for k, pid in pids.items())
        s.say(
            f"rooms: {same} of {len(pids)} objects in the same process as before; "
            f"sockets now {await s.split()}; pause {s.pauses([t])}"
        )
        s.say(f"not let in while it drained: {dict(s.refusals) or 'nobody'}")
        s.expect(same == len(pids), "a drain must not move rooms")
        found = s.verdict()
        s.expect(not found, "the checker's verdict")
        return not s.failed


@contextlib.asynccontextmanager
async def _pinned(s: Scene, pid: int):  # type: ignore[no-untyped-def]
    """A kept-alive connection to that very gateway, by trying."""
    for _ in range(200):
        async with httpx2.AsyncClient(
            base_url=s.messenger.url, trust_env=False, timeout=3.0
        ) as http:
            before = s.messenger.ports(s.messenger.gateways_by_pid()[pid])
            await http.get("/readyz")
            if s.messenger.ports(s.messenger.gateways_by_pid()[pid]) - before:
                yield http
                return
    raise RuntimeError("no connection to that gateway")


async def _watch(
    s: Scene,
    http: httpx2.AsyncClient,
    pid: int,
    t: float,
    probes: list[tuple[float, int]],
) -> float | None:
    """Ask /readyz until the gateway has ended; when that was."""
    while time.monotonic() < t + 25.0:
        if not any(row.pid == pid for row in s.messenger.family()):
            return time.monotonic() - t
        try:
            answer = await http.get("/readyz")
            probes.append((time.monotonic() - t, answer.status_code))
        except httpx2.HTTPError:
            probes.append((time.monotonic() - t, 0))
        await asyncio.sleep(0.02)
    return None


def _say(
    s: Scene, t: float, gone: float | None, probes: list[tuple[float, int]], held: int
) -> None:
    closed = [c for c in s.history.all(h.Closed) if c.t >= t and not c.ours]
    times = sorted(c.t - t for c in closed)
    refused = next((at for at, status in probes if status == 503), None)
    first = times[0] if times else None
    s.say(
        f"/readyz 503 after {_s(refused)}, first 1012 after {_s(first)}, last after "
        f"{_s(times[-1] if times else None)}, process gone after {_s(gone)}"
    )
    batches = Counter(round(at, 1) for at in times)
    sizes = ", ".join(f"{at:.1f}s {n}" for at, n in sorted(batches.items()))
    s.say(f"closed {len(closed)} of {held}, codes {dict(_codes(closed))}: {sizes}")
    s.expect(
        refused is not None and first is not None and refused <= first + 0.05,
        "/readyz must say no before sockets close",
    )
    s.expect(set(_codes(closed)) == {1012}, "a drain closes with 1012")
    s.expect(len(closed) == held, "only and all of its sockets close")
    s.expect(gone is not None, "the gateway did not end")


def _codes(closed: list[h.Closed]) -> Counter[int]:
    return Counter(c.code for c in closed)


def _s(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
