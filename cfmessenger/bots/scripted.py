"""The replier that needs no model: it speaks with its archetype's voice (`voices`).

A line is read for what it is about (`reading`), and the voice has some ways to answer
that, which take up the speaker's name and topic. Deterministic: the choice follows from
room, number and bot. A bot does not say again what it said within the history it is
given. Pure but for the port's `async`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random

from cfmessenger.accounts.users import Profile
from cfmessenger.bots import quiz
from cfmessenger.bots.reading import Gist, read
from cfmessenger.bots.talk import Answer, Question
from cfmessenger.bots.voices import Voice, chance_of, filled, voice_of

MAX_REPLY = 300
TRIES = 200

_ABOUT_TOPIC = re.compile(r"\{topic\}|\{Topic\}")


class Scripted:
    """A `Replier` that answers at once and alone."""

    async def reply(
        self, persona: Profile, question: Question, composing: Callable[[], None]
    ) -> Answer:
        """See `Replier`."""
        composing()
        return Answer(answer_to(persona, question))

    async def aclose(self) -> None:
        """See `Replier`."""


def answer_to(persona: Profile, question: Question) -> str:
    """What the persona says: 1-300 characters, one line, not what it said before."""
    chance = chance_of(question)
    said = {line.text for line in question.history if line.sender_id == persona.id}
    gist = read(question.text, (persona.display_name, persona.id))
    if persona.bot_archetype == "quiz":
        judged = quiz.move(question, persona.id, chance)
        if gist.intent in ("ask", "talk") or judged.decisive:
            return _fresh(iter([judged.text]), said, judged.text)
        greeting = _spoken(persona, question, gist, chance, said, MAX_REPLY - 120)
        return f"{greeting} {judged.next_card}"
    return _spoken(persona, question, gist, chance, said, MAX_REPLY)


def _spoken(
    persona: Profile,
    question: Question,
    gist: Gist,
    chance: Random,
    said: set[str],
    longest: int,
) -> str:
    voice = voice_of(persona)
    ways = _ways(voice, gist, chance)
    texts = (filled(way, voice, question, gist.topic, chance) for way in ways)
    short = (text for text in texts if len(text) <= longest)
    return _fresh(short, said, "…")


def _fresh(texts: Iterator[str], said: set[str], otherwise: str) -> str:
    """The first text that was not said yet; if all were, the last one with a number."""
    last = otherwise
    for text in texts:
        if text not in said:
            return text
        last = text
    for n in range(2, len(said) + 3):
        again = f"{last[: MAX_REPLY - 12]} (take {n})"
        if again not in said:
            return again
    raise AssertionError("more takes than were said")


def _ways(voice: Voice, gist: Gist, chance: Random) -> Iterator[str]:
    """Ways to answer, the fitting ones first; each may come again with other words."""
    fitting = voice.ways[gist.intent]
    # Rather talk on than end: whoever is greeted for the third time hears something.
    others = voice.ways["talk"]
    if not gist.topic:
        fitting = [way for way in fitting if not _ABOUT_TOPIC.search(way)] or fitting
        others = [way for way in others if not _ABOUT_TOPIC.search(way)]
    for _ in range(TRIES // 20):
        yield from chance.sample(fitting, len(fitting))
    for _ in range(TRIES // 20):
        yield from chance.sample(others, len(others))
