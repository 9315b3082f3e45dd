"""Asking: when a message speaks to a bot, the question that goes to the director.

Owns what of a room a bot is shown: the message and the 12 before it. A message speaks
to the bot of its direct room, or to the first that it mentions.
"""

from collections.abc import Sequence

from ..wire.events import ChatMessage, UnknownEvent, read_event
from .history import History
from .mentions import Names
from .talk import HISTORY, Question, Utterance


def question_of(
    message: ChatMessage, bots: Names, direct: Sequence[str], history: History
) -> Question | None:
    """The question in a person's message, before it joins the room's history."""
    bot = next((user for user in direct if user in bots.ids), None)
    if bot is None:
        if "@" not in message.content:
            return None
        bot = bots.spoken_to(message.content)
    if bot is None or message.sender_id in bots.ids:
        return None
    return Question(
        message.room_id,
        message.seq,
        bot,
        message.sender_id,
        message.display_name,
        message.content,
        message.timestamp,
        tuple(_utterances(history)),
    )


def _utterances(history: History) -> list[Utterance]:
    said = [read_event(seq, event)[0] for seq, event in history.latest(HISTORY)]
    return [
        Utterance(each.sender_id, each.display_name, each.content)
        for each in said
        if not isinstance(each, UnknownEvent)
    ]
