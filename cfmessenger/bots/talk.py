"""What is said to a bot and what it says: the values that pass between the bots' ear,
director and replier.

Must not know how any of them works.
"""

import msgspec

HISTORY = 12
"""Messages of the room that a question brings along."""


class Utterance(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One line of a conversation, as it was shown. `sender_id` tells bots apart."""

    sender_id: str
    display_name: str
    text: str


class Question(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A chat message that speaks to a bot.

    `seq` is its number in `room_id`; `history` are the latest messages of the room that
    came before it, oldest first, the bots' own among them.
    """

    room_id: str
    seq: int
    bot_id: str
    asked_by: str
    display_name: str
    text: str
    timestamp: int
    history: tuple[Utterance, ...] = ()


class Answer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a bot says, ready to be sent.

    `tokens`: what the model charged, 0 for a script. `outcome`: `ok`, or why it is an
    excuse and no answer: `timeout`, `error`, `malformed`, `circuit_open`, `off_duty`,
    `quota_day`, `quota_user`; or why nothing is said (`text` is empty): `off`, `gone`,
    `failed`, `overloaded`.
    """

    text: str
    tokens: int = 0
    outcome: str = "ok"
