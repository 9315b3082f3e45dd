"""What every experiment needs: a messenger, people in rooms, a verdict, a few lines.

Owns the frame (start, final read, check, stop) around an experiment. Must not know what
is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

from cfmessenger.client.session import Client, Session
from tests.system.chaos import history as h
from tests.system.chaos.checker import Anomaly, Limits, check
from tests.system.chaos.client import Chatter, wrong
from tests.system.chaos.history import Event, History
from tests.system.chaos.messenger import Messenger
from tests.system.chaos.report import percentile


class Scene:
    """A run with sockets at will. `say` prints; `failed` collects broken promises."""

    def __init__(self, messenger: Messenger, seed: int) -> None:
        self.messenger = messenger
        self.history = History()
        self.rng = random.Random(seed)
        self.chatters: list[Chatter] = []
        self.refusals: Counter[str] = Counter()
        self.failed: list[str] = []
        self.client = Client(messenger.url, timeout_s=10.0)
        self._sessions: dict[int, Session] = {}
        self._names: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def say(text: str) -> None:
        """A line of the result."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def expect(self, true: bool, text: str) -> None:
        """Note a promise that was not kept."""
        if not true:
            self.failed.append(text)

    async def session(self, n: int) -> Session:
        """The login of person `n`."""
        if n not in self._sessions:
            user = self.messenger.user(n)
            self._names[self.messenger.display_name(n)] = user
            self._sessions[n] = await self.client.login(user)
        return self._sessions[n]

    async def chatter(self, name: str, n: int, room: str, **more: bool) -> Chatter:
        """A client of person `n`, connecting."""
        made = Chatter(
            name,
            await self.session(n),
            room,
            self.history,
            names=self._names,
            rng=random.Random(self.rng.random()),
            retries=more.get("retries", True),
            refusals=self.refusals,
        )
        self.chatters.append(made)
        made.start()
        return made

    async def connected(self, timeout_s: float = 30.0) -> None:
        """Everyone has a socket."""
        async with asyncio.timeout(timeout_s):
            for each in self.chatters:
                await each.connected.wait()

    def talk(self, chatters: Sequence[Chatter], rate: float) -> asyncio.Task[None]:
        """Together these say `rate` messages a second, until the task is cancelled."""

        async def one(chatter: Chatter) -> None:
            while True:
                await asyncio.sleep(self.rng.expovariate(rate / len(chatters)))
                await chatter.say(size=40)

        async def run() -> None:
            await asyncio.gather(*(one(each) for each in chatters))

        task = asyncio.create_task(run())
        self._tasks.add(task)
        return task

    async def settled(self, timeout_s: float = 20.0) -> bool:
        """Everything said was answered and everyone is connected."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if all(
                e.away or (e.connected.is_set() and not e.outstanding)
                for e in self.chatters
            ):
                return True
            await asyncio.sleep(0.05)
        return False

    async def split(self) -> dict[str, int]:
        """How many of our sockets each gateway holds."""
        gateways = self.messenger.gateways()
        return {
            name: len(self.on(row_ports))
            for name, row in gateways.items()
            for row_ports in (self.messenger.ports(row),)
        }

    def on(self, ports: set[int]) -> list[Chatter]:
        """Which of us come from these ports."""
        return [e for e in self.chatters if e.connected.is_set() and e.port in ports]

    async def read_logs(self) -> None:
        """Every room's whole log, as any participant may read it."""
        await self.settled()
        await asyncio.sleep(1.0)
        for room in sorted({each.room for each in self.chatters if each.room}):
            each = next(each for each in self.chatters if each.room == room)
            session = next(s for s in self._sessions.values() if s.user.id == each.user)
            self.history.logs[room] = await read_log(session, room)

    def verdict(self, limits: Limits | None = None) -> list[Anomaly]:
        """The checker's word, printed."""
        found = check(self.history, limits)
        counts = Counter(each.rule for each in found)
        bugs = wrong(self.refusals)
        self.expect(not bugs, f"not let in because of bugs: {bugs}")
        oks, said = len(self.history.all(h.Ok)), len(self.history.all(h.Invoke))
        unexpected = counts["unexpected_close"]
        self.say(
            f"said {said}, acknowledged {oks}, refused "
            f"{len(self.history.all(h.Refused))}: lost {counts['lost']}, doubled "
            f"{counts['duplicate_id'] + counts['stream_repeat']}, holes "
            f"{counts['log_hole'] + counts['stream_skip']}, sockets closed "
            f"{unexpected}; all anomalies: {dict(counts) or 'none'}"
        )
        for each in found[:6]:
            self.say(f"  {each.rule}: {each.text} {each.room} {each.seqs}")
        return found

    def pauses(self, begins: Iterable[float], within_s: float = 10.0) -> str:
        """For each moment the longest wait of any sender right after it: p50, max."""
        oks = {(ok.client, ok.id): ok.t for ok in self.history.all(h.Ok)}
        longest = []
        for t in begins:
            waits = [
                oks[i.client, i.id] - i.t
                for i in self.history.all(h.Invoke)
                if (i.client, i.id) in oks
                and i.t <= t + within_s
                and oks[i.client, i.id] >= t
            ]
            longest.append(max(waits, default=0.0) * 1000)
        return milliseconds(longest)

    async def stop(self) -> None:
        """Every socket ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop(abort=True) for each in self.chatters))
        await self.client.aclose()


def milliseconds(values: Sequence[float]) -> str:
    """p50 and max of milliseconds."""
    if not values:
        return "no sample"
    return f"p50 {percentile(values, 0.5):.0f} ms, max {max(values):.0f} ms"


async def read_log(session: Session, room: str) -> list[Event]:
    """By paging, oldest first."""
    events: list[Event] = []
    before: int | None = None
    while True:
        page = await session.messages(room, before=before, limit=100)
        events = [Event.of(message) for message in page.messages] + events
        if page.next_before is None:
            return events
        before = page.next_before


Disk = Callable[[Path], contextlib.AbstractContextManager[None]]
"""Puts a disk of its own at the path of a data folder."""


@contextlib.asynccontextmanager
async def scene(
    people: int,
    seed: int,
    disk: Disk | None = None,
    kind: type[Messenger] = Messenger,
    **env: str,
) -> AsyncIterator[Scene]:
    """A running messenger with nobody in it; keeps its folder if something failed."""
    # What is hurt here is one room's own process.
    usual = {"CFM_CHAT_RATE": "0", "CFM_PLACEMENT": "dedicated"}
    messenger = kind(people, **usual | env)
    with disk(messenger.data) if disk else contextlib.nullcontext():
        async with messenger:
            made = Scene(messenger, seed)
            try:
                yield made
            finally:
                await made.stop()
    made.expect(not messenger.left, f"still ran after `up` ended: {messenger.left}")
    if made.failed:
        made.history.save(messenger.folder / "history.jsonl")
        made.say(f"kept: {messenger.folder}")
    else:
        messenger.discard()
    for text in made.failed:
        made.say(f"FAILED: {text}")
