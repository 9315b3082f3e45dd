"""`python -m tests.bench.placement`: what rooms notice of where they live.

Each row starts a messenger of its own with default settings (limits of people lifted)
and makes its load with `cfmessenger load`, which also checks every message; the command
is printed. A row that ends in no figures says why: that is a finding too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from cfmessenger.cli import process
from cfmessenger.cli.runtime import CHILD
from cfmessenger.load.figure import value_of
from cfmessenger.load.result import read
from cfmessenger.placement import MODES
from tests.bench import machine
from tests.bench.loader import Broken, Ear, Server, Tally, a_room, joined
from tests.bench.meter import Meter
from tests.bench.ours import Up, log_in, namespace_of, socket_urls, up
from tests.bench.packages import Missing

LIMIT_S = 420.0
MOVES = 20
TALK_S = 0.01
SETTLED_S = 2.0

Figures = dict[str, float]
Row = Callable[[str], Awaitable[Figures]]


async def load(up: Up, *arguments: str) -> Callable[[str], float]:
    """Runs `cfmessenger load`; its figures by name, 0 where it has none."""
    with tempfile.TemporaryDirectory(prefix="cfm-placement-") as folder:
        path = Path(folder, "result.json")
        command = [*arguments, "--url", up.base, "--max-lag", "200"]
        sys.stderr.write(f"    cfmessenger load {' '.join(command)}\n")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cfmessenger", "load", *command),
            *("--json", str(path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                said, _ = await child.communicate()
        except TimeoutError:
            child.kill()
            await child.wait()
            raise Broken(f"not done within {LIMIT_S:.0f} s") from None
        try:
            result = read(path)
        except FileNotFoundError:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise Broken(last[0] if last else "it said nothing") from None
        if child.returncode == 1:
            examples = "; ".join(result.oracle.examples[:3])
            raise Broken(f"messages were lost, doubled or reordered: {examples}")
        return lambda name: float(value_of(name, result) or 0.0)


async def conversations(mode: str) -> Figures:
    """60 rooms at once, the first that anybody does."""
    async with up(mode) as it:
        figure = await load(it, "open", "--rooms", "60", "--within", "0")
        return _opened(figure)


async def rush(mode: str) -> Figures:
    """2,000 new rooms in 20 s."""
    if mode == "dedicated":
        raise Broken("each room is a process: no machine of this size takes them")
    async with up(mode) as it:
        figure = await load(it, "open", "--rooms", "2000", "--within", "20")
        return _opened(figure)


async def first(mode: str) -> Figures:
    """The first message in a new room: one at a time, two a second."""
    async with up(mode) as it:
        figure = await load(it, "open", "--rooms", "20", "--within", "20")
        return _opened(figure)


def _opened(figure: Callable[[str], float]) -> Figures:
    return {
        "refused": figure("count.refused"),
        "p50_ms": figure("first.p50") / 1000,
        "p99_ms": figure("first.p99") / 1000,
        "max_ms": figure("first.max") / 1000,
    }


async def hot(mode: str) -> Figures:
    """One of 100 sockets and 100 messages a second, beside 200 calm ones."""
    async with up(mode) as it:
        return _beside(await load(it, "hot"))


async def hotter(mode: str) -> Figures:
    """The same at 800 a second, which takes a twelfth of a process's time."""
    async with up(mode) as it:
        return _beside(await load(it, "hot", "--hot-rate", "800"))


async def elsewhere(mode: str) -> Figures:
    """As `hot`, the calm rooms through a second gateway."""
    async with up(mode) as it, second_gateway(it) as url:
        return _beside(await load(it, "hot", "--calm-url", url))


async def slow(mode: str) -> Figures:
    """A room that keeps its loop for 200 ms at a time, twice a second, and waits."""
    return await _slow(mode)


async def computing(mode: str) -> Figures:
    """The same, but computing: it takes two fifths of a core from everybody."""
    return await _slow(mode, SLOW_COMPUTES="1")


async def _slow(mode: str, **more: str) -> Figures:
    settings = more | {
        "PYTHONPATH": str(Path(__file__).parent / "slow_machine"),
        "SLOW_ROOM": "room:slow-hot",
        "SLOW_MS": "200",
    }
    async with up(mode, **settings) as it:
        options = ("--room", "slow", "--hot-sockets", "10", "--hot-rate", "2")
        return _beside(await load(it, "hot", *options))


def _beside(figure: Callable[[str], float]) -> Figures:
    return {
        "before_p99_ms": figure("calmBefore.p99") / 1000,
        "beside_p99_ms": figure("calmBeside.p99") / 1000,
        "ratio_p99": figure("calmRatio.p99"),
        "ratio_p50": figure("calmRatio.p50"),
    }


@asynccontextmanager
async def second_gateway(it: Up) -> AsyncIterator[str]:
    """One more of the same node, with a port of its own; its address."""
    gateway = next(
        row
        for row in process.descendants(it.row.pid)
        if process.environment(row.pid).get(CHILD) == "gateway-0"
    )
    found = psutil.Process(gateway.pid)
    env = found.environ() | {"CFM_PORT": "0", "CFMX_GATEWAY_NUMBER": "1"}
    env.pop("CFMX_LISTEN_FD")
    child = await asyncio.create_subprocess_exec(
        *found.cmdline(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield await _address(child.pid)
    finally:
        child.terminate()
        await child.wait()


async def _address(pid: int) -> str:
    async with asyncio.timeout(30.0):
        while True:
            for each in psutil.Process(pid).net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    return f"http://127.0.0.1:{each.laddr.port}"
            await asyncio.sleep(0.1)


async def move(mode: str) -> Figures:
    """A room of two that talks 100 times a second is pinned and unpinned in turn."""
    if mode != "auto":
        raise Broken("nothing moves")
    async with up(mode) as it:
        tokens = await asyncio.to_thread(log_in, it.base)
        server = Server(socket_urls(it.base, tokens), Meter([it.row.pid]))
        room, tally, names = a_room(), Tally(), namespace_of(it.data)
        async with joined(server, [(room, 0), (room, 1)], tally) as members:
            ear = members[1].ear = Ear()
            talking = asyncio.create_task(_talk(members[0].say))
            await asyncio.sleep(SETTLED_S)
            pauses = []
            for n in range(MOVES):
                seen = len(ear.latencies_s)
                change = names.pin if n % 2 == 0 else names.unpin
                await change(f"room:{room}")
                await asyncio.sleep(SETTLED_S)
                pauses.append(max(ear.latencies_s[seen:]) * 1000)
            talking.cancel()
        await names.close()
        if ear.breaks or tally.dropped or tally.errors:
            raise Broken(
                f"{ear.breaks} gaps, {tally.dropped} closed, {tally.errors} errors"
            )
        return {
            "p50_ms": statistics.median(pauses),
            "min_ms": min(pauses),
            "max_ms": max(pauses),
            "moves": len(pauses),
        }


async def _talk(say: Callable[[float], None]) -> None:
    due = time.perf_counter()
    while True:
        say(due)
        due += TALK_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def killed(mode: str) -> Figures:
    """The first message of a new room after all processes of rooms were killed."""
    if mode == "dedicated":
        raise Broken("there are no pools")
    async with up(mode) as it:
        tokens = await asyncio.to_thread(log_in, it.base)
        server = Server(socket_urls(it.base, tokens), Meter([it.row.pid]))
        took = []
        for _ in range(5):
            await asyncio.sleep(SETTLED_S)
            for actor in psutil.Process(it.row.pid).children(recursive=True):
                if actor.cmdline()[:1] == ["ray::ObjectActor"]:
                    os.kill(actor.pid, 9)
            began = time.perf_counter()
            tally = Tally()
            async with joined(server, [(a_room(), 0)], tally) as (member,):
                heard = asyncio.Event()
                tally.aim(1, heard.set)
                member.say(began)
                await heard.wait()
            took.append((time.perf_counter() - began) * 1000)
        return {"p50_ms": statistics.median(took), "max_ms": max(took)}


ROWS: dict[str, Row] = {
    "conversations": conversations,
    "rush": rush,
    "first": first,
    "hot": hot,
    "hotter": hotter,
    "elsewhere": elsewhere,
    "slow": slow,
    "computing": computing,
    "move": move,
    "killed": killed,
}


async def measure(modes: list[str], rows: list[str], times: int) -> None:
    """Row by row, mode beside mode; a line for each on stdout as it comes."""
    for name in rows:
        for at in range(times):
            for mode in modes:
                sys.stderr.write(f"{name}, {mode}, {at + 1} of {times}\n")
                try:
                    figures = await ROWS[name](mode)
                    said = ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
                except (Broken, Missing, OSError, TimeoutError) as error:
                    said = f"no figures: {error or type(error).__name__}"
                print(f"{name:14} {mode:10} {said}", flush=True)  # noqa: T201


def _names(text: str, allowed: list[str]) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in allowed]:
        raise SystemExit(f"no {', '.join(unknown)}: {', '.join(allowed)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.placement", None, __doc__)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    print(f"{machine.facts()}", flush=True)  # noqa: T201
    modes = _names(options.modes, list(MODES))
    asyncio.run(measure(modes, _names(options.rows, list(ROWS)), options.times))


if __name__ == "__main__":
    main()
