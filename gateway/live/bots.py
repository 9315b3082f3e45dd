"""What a gateway does for the bots: wakes their director, and shows who is there.

Once a second it looks at two keys in Valkey, `bots:active` and the switch. It asks the
director for a rotation when an hour begins or nobody is in rotation, and tells the
presence registry who is, as long as somebody here watches it. Every gateway does the
same, and all of it may be done twice; it decides nothing about the bots itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Protocol

from msgspec import UNSET

from cfmessenger import bots
from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots import figures as day
from cfmessenger.bots.inbox import RotationDue
from cfmessenger.chat.effects import Published, encode_notification
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey, pairs
from cfmessenger.wire.protocol import Participant
from gateway import metrics
from gateway.api import rotation

logger = logging.getLogger("cfmessenger.bots")

POLL_S = 1.0
HOUR_MS = 3_600_000
ASK_EVERY_S = 60.0
"""At least so long between two questions to the director."""

RETRY_S = 5.0
"""The same after the director was not reached."""

JITTER_S = 5.0
"""The longest wait before asking, since all gateways see the same hour begin."""


class Notifiable(Protocol):
    """An object that can be told something: a `Stub`."""

    @property
    def epoch(self) -> int: ...
    def notify(self, payload: bytes, *, once: bool) -> asyncio.Future[None]: ...


class Objects(Protocol):
    """The gateway's sockets, as far as the bots concern them."""

    def object(self, name: str) -> Notifiable: ...
    def watched(self) -> Notifiable | None: ...


def _participant(bot: Profile) -> Participant:
    message = bot.personal_message or UNSET
    return Participant(bot.id, bot.display_name, "online", message, bot.avatar_id)


class BotWatch:
    """`watch` runs until cancelled; whoever runs it starts it again."""

    def __init__(
        self, kv: Valkey, directory: Directory, objects: Objects, clock: Clock
    ) -> None:
        self._kv = kv
        self._directory = directory
        self._objects = objects
        self._clock = clock
        self._away = False  # while Valkey is, which was logged
        # The rotation.
        self._asked_hour = -1  # of the last that was asked for; -1: none, or it failed
        # When to ask, in loop time; None: it is not due. The first without delay.
        self._ask_at: float | None = 0.0
        self._rested_until = 0.0  # not before, in loop time
        # The registry: what it was told and in which life, None: perhaps nothing.
        self._told: tuple[int, Published] | None = None
        self._telling: asyncio.Future[None] | None = None  # the latest; done: over

    async def watch(self) -> None:
        """Look once a second; with Valkey away all stays as it was."""
        while True:
            try:
                await self._look()
                self._away = False
            except Unavailable as problem:
                if not self._away:
                    logger.warning("bots: %s", problem.message)
                self._away = True
            await asyncio.sleep(POLL_S)

    async def _look(self) -> None:
        today = time.strftime("%Y-%m-%d", time.gmtime(self._clock.now() / 1000))
        members, enabled, stored = await self._kv.ask_all(
            ("SMEMBERS", keys.BOTS_ACTIVE),
            ("GET", keys.BOT_ENABLED),
            ("HGETALL", keys.bots_metrics(today)),
        )
        known = {bot.id for bot in self._directory.bots}
        found = day.read(pairs(stored))
        metrics.BOTS.show({bot: found[bot] for bot in found.keys() & known})
        if enabled != b"0":
            self._rotate(bool(members))
        shown = rotation.shown(members, enabled, self._directory)
        self._tell(Published(bots.NAME, tuple(map(_participant, shown))))

    # The director.

    def _rotate(self, anybody: bool) -> None:
        """Ask for a rotation, if it is time; a second one in an hour does nothing."""
        hour = self._clock.now() // HOUR_MS
        if anybody and hour == self._asked_hour:
            self._ask_at = None
            return
        now = asyncio.get_running_loop().time()
        if self._ask_at is None:
            self._ask_at = now + random.uniform(0, JITTER_S)
        if now < max(self._ask_at, self._rested_until):
            return
        self._ask_at = None
        self._rested_until = now + ASK_EVERY_S
        self._asked_hour = hour
        payload = encode_notification(RotationDue())
        asked = self._objects.object(bots.DIRECTOR).notify(payload, once=False)
        asked.add_done_callback(self._asked)

    def _asked(self, asked: asyncio.Future[None]) -> None:
        if asked.cancelled() or asked.exception() is None:
            return
        self._asked_hour = -1
        self._rested_until = asyncio.get_running_loop().time() + RETRY_S

    # The registry.

    def _tell(self, news: Published) -> None:
        """Tell it who is there, if that has changed or it has a new epoch since."""
        registry = self._objects.watched()
        if registry is None:
            self._told = None  # others tell it meanwhile, and not us
            return
        if self._telling is not None and not self._telling.done():
            return  # looked at again in a second
        if self._told == (registry.epoch, news):
            return
        self._told = None
        telling = registry.notify(encode_notification(news), once=False)

        def told(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._told = (registry.epoch, news)

        telling.add_done_callback(told)
        self._telling = telling
