"""The port behind which a bot thinks. Adapters: `scripted` and `remote`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cfmessenger.accounts.users import Profile
from cfmessenger.bots.talk import Answer, Question


class Replier(Protocol):
    """Answers questions in character; many may be asked at once."""

    async def reply(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        """The persona's answer, always: a failure becomes an excuse in character, with
        its `outcome`. Raises nothing but CancelledError.

        `composing` is called whenever text has arrived (streaming); the caller limits
        what comes of it. Bounded: 15 s, one retry within them.
        """
        ...

    async def aclose(self) -> None:
        """Gives back connections."""
        ...
