"""The quizmaster's cards: which one is on the table, and whether an answer is right.

What was asked is read off the history, so the quiz needs no memory of its own: the
latest line of the bot that ends in a card's question is the card on the table. Pure.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from random import Random

import msgspec

from cfmessenger.bots.reading import called
from cfmessenger.bots.talk import Question

_GIVES_UP = ("pass", "dunno", "don't know", "dont know", "no idea", "give up", "skip")
_HINT = "hint"


class Card(msgspec.Struct, frozen=True):
    """`ask` is the question, `answers` what counts, `say` the answer as it is told."""

    ask: str
    answers: tuple[str, ...]
    say: str
    hint: str


class Move(msgspec.Struct, frozen=True):
    """What the quizmaster says now. `decisive`: whatever else the line seems to be."""

    text: str
    next_card: str
    decisive: bool


def move(question: Question, bot_id: str, chance: Random) -> Move:
    """The quizmaster's move, after what was said and what is said now."""
    asked, hinted = _on_table(question, bot_id)
    seen = {card.ask for line in question.history for card in _in(line.text)}
    fresh = [card for card in cards() if card.ask not in seen] or list(cards())
    following = f"Next question: {chance.choice(fresh).ask}"
    said = question.text.casefold()
    if asked is None:
        return Move(following.replace("Next", "First"), following, decisive=False)
    name = called(question.display_name)
    if any(_has(said, answer) for answer in asked.answers):
        return Move(f"Correct, {name}: {asked.say}! {following}", following, True)
    if any(phrase in said for phrase in _GIVES_UP):
        return Move(f"It was {asked.say}, {name}. {following}", following, True)
    if _HINT in said or not hinted:
        opening = "Here's a hint" if _HINT in said else "Not quite! A hint"
        text = f"{opening}: {asked.hint}. Again: {asked.ask}"
        return Move(text, following, decisive=_HINT in said)
    text = f"So close, {name}! It was {asked.say}. {following}"
    return Move(text, following, decisive=False)


def _on_table(question: Question, bot_id: str) -> tuple[Card | None, bool]:
    for line in reversed(question.history):
        if line.sender_id == bot_id:
            for card in _in(line.text):
                return card, card.hint in line.text
    return None, False


def _in(text: str) -> list[Card]:
    return [card for card in cards() if text.endswith(card.ask)]


def _has(said: str, answer: str) -> bool:
    return re.search(rf"\b{re.escape(answer)}s?\b", said) is not None


@cache
def cards() -> tuple[Card, ...]:
    """All of them."""
    raw = (files(__package__) / "quiz.json").read_bytes()
    return msgspec.json.decode(raw, type=tuple[Card, ...])
