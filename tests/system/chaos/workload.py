"""Who talks, where and how much: eight rooms of six, direct rooms, watchers, idlers.

Owns the population and its habits; every choice comes from one seeded source. Must not
hurt anything but its own sockets. Rooms 6 and 7 talk in bursts whose pauses lie around
`hibernate_after`, so that messages race with rooms that fall asleep.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator

from cfmessenger.client.session import Client, Session
from tests.system.chaos.client import Chatter
from tests.system.chaos.history import History
from tests.system.chaos.messenger import Messenger

ROOMS = ("general", "music", "r2", "r3", "r4", "nudgers", "dozy-6", "dozy-7")
SEATS = 6
PEOPLE = 24
DIRECT = 3
WATCHERS = 4
IDLERS = 3
LAG_BEAT_S = 0.05
CALM = 4


class Population:
    """All clients of a run. `talking` is cleared for quiet; `stop` ends the talk."""

    def __init__(
        self,
        messenger: Messenger,
        history: History,
        rng: random.Random,
        *,
        rate: float,
        hibernate_after: float,
    ) -> None:
        self.chatters: list[Chatter] = []
        self.idlers: list[Chatter] = []
        self.watchers: list[Chatter] = []
        self.talking = asyncio.Event()
        self.talking.set()
        self.refusals: Counter[str] = Counter()
        self.skipped = 0  # not said, because too much waited
        self._messenger = messenger
        self._history = history
        self._rng = rng
        self._rate = rate
        self._hibernate_after = hibernate_after
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = Client(messenger.url, timeout_s=8.0)
        self._sessions: dict[str, Session] = {}
        self._names = {
            messenger.display_name(n): messenger.user(n) for n in range(PEOPLE)
        }

    def __iter__(self) -> Iterator[Chatter]:
        yield from self.chatters
        yield from self.idlers
        yield from self.watchers

    @property
    def rooms(self) -> list[str]:
        """Every room that somebody of us is in."""
        return sorted({each.room for each in self if each.room})

    async def start(self) -> None:
        """Log everyone in, connect, and begin to talk."""
        for n in range(PEOPLE):
            user = self._messenger.user(n)
            self._sessions[user] = await self._client.login(user)
        self._invite()
        for each in self:
            each.start()
        async with asyncio.timeout(30.0):
            for each in self:
                await each.connected.wait()
        self._spawn(self._watch_lag())
        for each in self.chatters:
            self._spawn(self._talk(each))

    def _invite(self) -> None:
        for number, room in enumerate(ROOMS):
            for seat in range(SEATS):
                n = (number * SEATS // 2 + seat) % PEOPLE
                self.chatters.append(self._chatter(f"{room}-{seat}", n, room))
        for number in range(DIRECT):
            one, two = 2 * number, 2 * number + 1
            users = sorted((self._messenger.user(one), self._messenger.user(two)))
            room = f"dm_{users[0]}__{users[1]}"
            for n in (one, two):
                self.chatters.append(self._chatter(f"dm{number}-{n}", n, room))
        for number in range(IDLERS):
            room = ROOMS[number]
            self.idlers.append(self._chatter(f"idle-{room}", number + 12, room))
        for number in range(WATCHERS):
            self.watchers.append(self._chatter(f"watch-{number}", number, ""))

    def _chatter(self, name: str, n: int, room: str) -> Chatter:
        return Chatter(
            name,
            self._sessions[self._messenger.user(n)],
            room,
            self._history,
            names=self._names,
            rng=random.Random(self._rng.random()),
            retries=self._rng.random() < 0.5,
            refusals=self.refusals,
        )

    # Talk.

    async def _talk(self, chatter: Chatter) -> None:
        rng = random.Random(self._rng.random())
        while not chatter.away:
            await asyncio.sleep(self._pause(chatter, rng))
            if not self.talking.is_set():
                await self.talking.wait()
                continue
            roll = rng.random()
            if chatter.name in ("nudgers-0", "nudgers-1") and roll < 0.3:
                said = await chatter.say("nudge")
            elif roll < 0.03:
                said = await chatter.say("wink")
            elif roll < 0.06:
                await chatter.murmur()
                continue
            else:
                said = await chatter.say(size=int(rng.expovariate(1 / 80)))
            self.skipped += said is None

    def _pause(self, chatter: Chatter, rng: random.Random) -> float:
        if chatter.room.startswith("dozy"):
            # Six of them; only the first talks much, around the moment of sleep.
            if chatter.name.endswith("-0"):
                return self._hibernate_after * rng.uniform(0.7, 1.6)
            return self._hibernate_after * rng.uniform(4.0, 12.0)
        if chatter.room.startswith("dm_"):
            return rng.expovariate(1.0)
        if chatter.room == "nudgers":
            return rng.expovariate(2.0)
        busy = sum(each.room in ROOMS[:5] for each in self.chatters)
        return rng.expovariate(max(0.1, (self._rate - 20) / busy))

    async def _watch_lag(self) -> None:
        """The longest time for which this loop did not run."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LAG_BEAT_S)
            lag = time.monotonic() - began - LAG_BEAT_S
            self._history.lag_s = max(self._history.lag_s, lag)

    async def calm(self, timeout_s: float) -> None:
        """Until everyone is connected and next to nothing waits, or the time is up."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            here = [each for each in self if not each.away]
            waiting = sum(each.outstanding for each in here)
            if waiting <= CALM and all(e.connected.is_set() for e in here):
                return
            await asyncio.sleep(0.1)

    # The end.

    async def leave(self, users: set[str]) -> None:
        """These people's sockets end for good, half of them without a word."""
        leaving = [each for each in self if each.user in users]
        for n, each in enumerate(leaving):
            await each.stop(abort=n % 2 == 0)

    async def settle(self, timeout_s: float) -> bool:
        """Nobody talks; everyone is connected and has been answered."""
        self.talking.clear()
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            here = [each for each in self if not each.away]
            if all(e.connected.is_set() and not e.outstanding for e in here):
                return True
            await asyncio.sleep(0.1)
        return False

    @property
    def online(self) -> list[str]:
        """Whose sockets are open, which is the truth about presence."""
        return sorted({each.user for each in self if each.connected.is_set()})

    def session(self, user: str) -> Session:
        """A login of this person."""
        return self._sessions[user]

    @property
    def client(self) -> Client:
        """For requests without a session."""
        return self._client

    async def stop(self) -> None:
        """Every socket and task ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop(abort=True) for each in self))
        await self._client.aclose()

    def _spawn(self, work: object) -> None:
        task = asyncio.create_task(work)  # type: ignore[arg-type, var-annotated]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
