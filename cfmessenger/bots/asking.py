"""Asking: when a message speaks to a bot, the question that goes to the director.

Owns what of a room a bot is shown: the message and the 12 before it. A message speaks
to the bot of its direct room, or to the first that it mentions.
"""

from collections.abc import Iterable

from ..chat.effects import Notify, encode_notification
from ..chat.room import Ear, Earlier
from ..ids import direct_users
from ..wire.events import ChatMessage, UnknownEvent, read_event
from . import DIRECTOR
from .inbox import Asked
from .mentions import Names
from .talk import HISTORY, Question, Utterance


def ear_for(bots: Iterable[tuple[str, str]]) -> Ear:
    """What rooms must hear so that these (id and display name) can be spoken to."""
    names = Names(bots)

    def hear(message: ChatMessage, earlier: Earlier) -> Notify | None:
        bot = None
        for user in direct_users(message.room_id):
            if user in names.ids:
                bot = user
                break
        if bot is None:
            if "@" not in message.content:
                return None
            bot = names.spoken_to(message.content)
        if bot is None or message.sender_id in names.ids:
            return None
        asked = Asked(_question(message, bot, earlier))
        return Notify(DIRECTOR, encode_notification(asked))

    return hear


def _question(message: ChatMessage, bot: str, earlier: Earlier) -> Question:
    return Question(
        message.room_id,
        message.seq,
        bot,
        message.sender_id,
        message.display_name,
        message.content,
        message.timestamp,
        tuple(_utterances(earlier)),
    )


def _utterances(earlier: Earlier) -> list[Utterance]:
    said = [read_event(seq, event)[0] for seq, event in earlier.latest(HISTORY)]
    return [
        Utterance(each.sender_id, each.display_name, each.content)
        for each in said
        if not isinstance(each, UnknownEvent)
    ]
