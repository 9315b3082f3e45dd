"""The replier that needs no model: a voice for each archetype, out of `voices.json`.

A line is read for what it is about (`reading`), and the archetype has some ways to
answer that, which take up the speaker's name and topic. Deterministic: the choice
follows from room, number and bot. A bot does not say again what it said within the
history it is given. Pure but for the port's `async`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from random import Random

import msgspec

from cfmessenger.accounts.users import Profile
from cfmessenger.bots import quiz
from cfmessenger.bots.reading import Line, called, read
from cfmessenger.chat.talk import Answer, Question

MAX_REPLY = 300
TRIES = 200

Voice = dict[str, list[str]]

_SLOT = re.compile(r"\{(\w+)\}")
_TOPICLESS = re.compile(r"\{topic\}|\{Topic\}")


class _Voice(msgspec.Struct, frozen=True):
    words: Voice
    ways: Voice


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
    chance = Random(_seed(question))
    said = {line.text for line in question.history if line.sender_id == persona.id}
    own_names = (persona.display_name, persona.id)
    line = read(question.text, own_names)
    if persona.bot_archetype == "quiz":
        judged = quiz.move(question, persona.id, chance)
        if line.intent in ("ask", "talk") or judged.decisive:
            return _fresh(iter([judged.text]), said, judged.text)
        greeting = _spoken(persona, question, line, chance, said, MAX_REPLY - 120)
        return f"{greeting} {judged.next_card}"
    return _spoken(persona, question, line, chance, said, MAX_REPLY)


def excuse_of(persona: Profile, question: Question) -> str:
    """What the persona says when it cannot think of an answer."""
    chance = Random(_seed(question))
    voice = _voice(persona.bot_archetype or "")
    way = chance.choice(voice.ways["excuse"])
    return _fill(way, voice, question, Line("talk", ""), chance)


def _spoken(
    persona: Profile,
    question: Question,
    line: Line,
    chance: Random,
    said: set[str],
    longest: int,
) -> str:
    voice = _voice(persona.bot_archetype or "")
    ways = _ways(voice, line, chance)
    filled = (_fill(way, voice, question, line, chance) for way in ways)
    short = (text for text in filled if len(text) <= longest)
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


def _ways(voice: _Voice, line: Line, chance: Random) -> Iterator[str]:
    """Ways to answer, the fitting ones first, some of them with other words again."""
    fitting = voice.ways[line.intent]
    # Rather talk on than end: whoever is greeted for the third time hears something.
    others = voice.ways["talk"]
    if not line.topic:
        fitting = [way for way in fitting if not _TOPICLESS.search(way)] or fitting
        others = [way for way in others if not _TOPICLESS.search(way)]
    for _ in range(TRIES // 20):
        yield from chance.sample(fitting, len(fitting))
    for _ in range(TRIES // 20):
        yield from chance.sample(others, len(others))


def _fill(
    way: str, voice: _Voice, question: Question, line: Line, chance: Random
) -> str:
    name, topic = called(question.display_name), line.topic or "it"
    thing = chance.choice(voice.words["thing"])
    mood = chance.choice(voice.words["mood"])
    words = {
        "name": name,
        "NAME": name.upper(),
        "topic": topic,
        "Topic": _capital(topic),
        "thing": thing,
        "Thing": _capital(thing),
        "mood": mood,
        "mood_cap": _capital(mood),
        "number": str(chance.randrange(2, 999)),
    }
    return _SLOT.sub(lambda found: words[found[1]], way)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _seed(question: Question) -> int:
    told = f"{question.room_id}\n{question.seq}\n{question.bot_id}".encode()
    return int.from_bytes(blake2b(told, digest_size=8).digest(), "big")


def _voice(archetype: str) -> _Voice:
    voices = _voices()
    return voices.get(archetype) or voices[""]


@cache
def _voices() -> dict[str, _Voice]:
    raw = (files(__package__) / "voices.json").read_bytes()
    found = msgspec.json.decode(raw, type=dict[str, dict[str, Voice | list[str]]])
    return {
        archetype: _Voice(
            msgspec.convert(parts["words"], Voice),
            {
                intent: msgspec.convert(ways, list[str])
                for intent, ways in parts.items()
                if intent != "words"
            },
        )
        for archetype, parts in found.items()
    }
