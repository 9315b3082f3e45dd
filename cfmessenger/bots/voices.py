"""The voices of the archetypes, out of `voices.json`: ways to say something, and words.

A way has slots: for the speaker's name, the topic, and words of the archetype. Whoever
chooses does so by `chance_of`, which follows from room, number and bot, so a question
that is asked again is answered alike. Pure.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from random import Random

import msgspec

from cfmessenger.accounts.users import Profile
from cfmessenger.bots.reading import called
from cfmessenger.bots.talk import Question

_SLOT = re.compile(r"\{(\w+)\}")

_Choices = dict[str, list[str]]


class Voice(msgspec.Struct, frozen=True):
    """`ways` by intent (and `excuse`), and `words` by the slot that takes them."""

    words: _Choices
    ways: _Choices


def voice_of(persona: Profile) -> Voice:
    """The voice of its archetype; a plain one, if that has none."""
    voices = _voices()
    return voices.get(persona.bot_archetype or "") or voices[""]


def chance_of(question: Question) -> Random:
    """What chooses for this question and bot."""
    told = f"{question.room_id}\n{question.seq}\n{question.bot_id}".encode()
    return Random(int.from_bytes(blake2b(told, digest_size=8).digest(), "big"))


def excuse_of(persona: Profile, question: Question) -> str:
    """What the persona says when it cannot think of an answer."""
    chance, voice = chance_of(question), voice_of(persona)
    way = chance.choice(voice.ways["excuse"])
    return filled(way, voice, question, "", chance)


def filled(
    way: str, voice: Voice, question: Question, topic: str, chance: Random
) -> str:
    """The way with its slots filled; without a `topic` it is about "it"."""
    name, topic = called(question.display_name), topic or "it"
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


@cache
def _voices() -> dict[str, Voice]:
    raw = (files(__package__) / "voices.json").read_bytes()
    found = msgspec.json.decode(raw, type=dict[str, dict[str, _Choices | list[str]]])
    return {
        archetype: Voice(
            msgspec.convert(parts["words"], _Choices),
            {
                intent: msgspec.convert(ways, list[str])
                for intent, ways in parts.items()
                if intent != "words"
            },
        )
        for archetype, parts in found.items()
    }
