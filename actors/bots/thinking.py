"""Thinking: what a director has asked for and a machine must not do, which is to wait.

Owns the tasks in which a bot's answer comes about: the look at the switch before and
after, the typing indicator, a human pace. How many there are is bounded, and they end
with the life of the director that they belong to. Must not know who may be answered
(the director decides) nor how (a `Replier` does); the latter, with all that it needs
for HTTP, is loaded when the first question comes and in no other process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from actors.kinds import Shell
from cfmessenger.accounts.users import Profile
from cfmessenger.background import Background
from cfmessenger.bots.effects import Think
from cfmessenger.bots.inbox import Answered
from cfmessenger.bots.replier import Replier
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.chat.effects import (
    GuestEffect,
    Notify,
    Types,
    encode_notification,
)
from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_name
from cfmessenger.storage import keys

logger = logging.getLogger("cfmessenger.thinking")

AT_ONCE = 64
"""Questions of an activation that are thought about at the same time."""

WAITING = 256
"""Questions that may wait behind those; one more is refused as `overloaded`."""

SWITCH_TIMEOUT_S = 0.5
MS_A_CHARACTER = 40
FASTEST_MS, SLOWEST_MS = 1000, 4000
REFRESH_S = 2.5
"""A typing indicator goes out after three seconds by itself."""

REFRESHES = 4


class Bots(msgspec.Struct, frozen=True):
    """What an actor process must know of the bots; travels in its settings, all but
    where the AI server is and its key: these two the director's process alone reads."""

    personas: tuple[Profile, ...]
    active: int = 4
    quota_day: int = 10_000
    quota_user: int = 50
    quota_room: int = 1
    ai_base_url: str | None = None
    ai_model: str | None = None
    ai_key: str | None = None

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Ids and display names, which is all that a room needs."""
        return tuple((bot.id, bot.display_name) for bot in self.personas)


def _load(bots: Bots) -> Replier:
    from cfmessenger.bots.repliers import replier_for

    return replier_for(bots.ai_base_url, bots.ai_model, bots.ai_key)


class Mind:
    """The replier of a process, made when it is first needed, and the personas."""

    def __init__(
        self, bots: Bots, load: Callable[[Bots], Replier] | None = None
    ) -> None:
        self.bots = bots
        self._load = load or _load
        self._replier: Replier | None = None  # from its first use until `aclose`
        self.personas = {bot.id: bot for bot in bots.personas}

    @property
    def replier(self) -> Replier:
        """Loads it the first time."""
        if self._replier is None:
            self._replier = self._load(self.bots)
        return self._replier

    async def aclose(self) -> None:
        """Gives back what the replier holds."""
        if self._replier is not None:
            await self._replier.aclose()
            self._replier = None


ShowTyping = Callable[[Notify], None]


class Thinking:
    """The questions that a director has in mind: its attendant (kinds.py).

    The shell is told an answer for every question that was begun, unless `cancel` comes
    first. An answer without text is none: its `outcome` says why (`off`, `overloaded`,
    `gone`, `failed`).
    """

    def __init__(self, mind: Mind, shell: Shell) -> None:
        self._mind = mind
        self._shell = shell
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # One for each question, from `begin` until it is answered or `cancel`.
        self._asked = Background()

    @property
    def busy(self) -> bool:
        """Somebody waits for an answer."""
        return bool(self._asked)

    def take(self, effect: GuestEffect, gateway: str | None) -> None:
        """Think about it, as soon as it is its turn; or give the excuse, which no
        replier is asked for."""
        assert isinstance(effect, Think)
        question, excuse = effect.question, effect.excuse
        if gateway is not None:
            self._shell.route(room_name(question.room_id), gateway)
        if len(self._asked) >= AT_ONCE + WAITING:
            self._answered(question, Answer("", outcome="overloaded"))
            return
        self._asked.begin(self._think(question, excuse))

    def _answered(self, question: Question, answer: Answer) -> None:
        took = max(0, self._shell.clock.now() - question.timestamp)
        answered = Answered(question.room_id, question.seq, answer, took)
        self._shell.tell(encode_notification(answered))

    def cancel(self) -> None:
        """Think of nothing more; nobody is told."""
        self._asked.cancel()
        self._asked = Background()  # not `busy` any more, from now on

    async def _think(self, question: Question, excuse: Answer | None) -> None:
        persona = self._mind.personas.get(question.bot_id)
        if persona is None:  # the list of bots has changed since it was asked
            self._answered(question, Answer("", outcome="gone"))
            return
        typing = Typing(self._shell.show, question.room_id, persona)
        try:
            answer = await self._find(persona, question, excuse, typing)
        except Exception:
            # Our bug; but the room would be busy for ever.
            logger.exception("%s cannot answer", persona.id)
            answer = Answer("", outcome="failed")
        if not answer.text:
            typing.stop()
        # Before this task ends: `busy` must hold until the answer is given.
        self._answered(question, answer)

    async def _find(
        self,
        persona: Profile,
        question: Question,
        excuse: Answer | None,
        typing: Typing,
    ) -> Answer:
        off = Answer("", outcome="off")
        async with self._at_once:
            if not await self._allowed():
                return off
            typing.start()
            lasting = asyncio.create_task(typing.last())
            try:
                answer = excuse or await self._mind.replier.reply(
                    persona, question, typing.refresh
                )
            finally:
                lasting.cancel()
        while (left := self._pause_s(question, answer)) > 0:
            await asyncio.sleep(min(left, REFRESH_S))
            typing.refresh()
        return answer if await self._allowed() else off

    def _pause_s(self, question: Question, answer: Answer) -> float:
        """Seconds that a person would still need to type it, from the question on."""
        pace = MS_A_CHARACTER * len(answer.text)
        pace = min(max(pace, FASTEST_MS), SLOWEST_MS)
        passed = max(0, self._shell.clock.now() - question.timestamp)
        return (pace - passed) / 1000

    async def _allowed(self) -> bool:
        """Whether bots are switched on; false also when that cannot be found out."""
        try:
            async with asyncio.timeout(SWITCH_TIMEOUT_S):
                return bool(await self._shell.ask("GET", keys.BOT_ENABLED) != b"0")
        except (Unavailable, TimeoutError):
            return False


class Typing:
    """One bot's indicator in one room: on, at most `REFRESHES` times again, off."""

    def __init__(self, show_typing: ShowTyping, room_id: str, persona: Profile) -> None:
        said = partial(Types, persona.id, persona.display_name)
        self._on, self._off = (
            Notify(room_name(room_id), encode_notification(said(is_typing)))
            for is_typing in (True, False)
        )
        self._show_typing = show_typing
        self._left = REFRESHES  # how often it may still be refreshed
        self._shown_at: float | None = None  # loop time; None: it has not begun

    def start(self) -> None:
        """It begins to type."""
        self._shown_at = asyncio.get_running_loop().time()
        self._show_typing(self._on)

    def refresh(self) -> None:
        """It is still typing; shown only if nobody would know it otherwise."""
        now = asyncio.get_running_loop().time()
        due = self._shown_at is not None and now - self._shown_at >= REFRESH_S
        if due and self._left:
            self._left -= 1
            self._shown_at = now
            self._show_typing(self._on)

    async def last(self) -> None:
        """Keep it on while the replier is silent, until no refresh is left."""
        while self._left:
            await asyncio.sleep(REFRESH_S)
            self.refresh()

    def stop(self) -> None:
        """It has nothing to say after all."""
        if self._shown_at is not None:
            self._show_typing(self._off)
