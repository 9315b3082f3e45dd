"""The port behind which a bot thinks, and which adapter the settings mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from cfmessenger.bots.talk import Answer, Question
from cfmessenger.users import Profile


class Model(msgspec.Struct, frozen=True):
    """An OpenAI-compatible server. `repr` hides the key."""

    base_url: str
    name: str
    key: str | None = None

    def __repr__(self) -> str:
        return f"Model({self.base_url!r}, {self.name!r})"


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


def replier_for(model: Model | None) -> Replier:
    """The model's, or the scripts that need none; the other one is not imported."""
    if model is None:
        from cfmessenger.bots.scripted import Scripted

        return Scripted()
    from cfmessenger.bots.remote import Remote

    return Remote(model)
