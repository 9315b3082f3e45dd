"""The director's inbox: all that it is told."""

import msgspec

from .talk import Answer, Question


class Asked(msgspec.Struct, frozen=True, gc=False, tag="asked"):
    """A room committed a message that speaks to a bot."""

    question: Question


class Answered(msgspec.Struct, frozen=True, gc=False, tag="answered"):
    """A question was thought about. Without text the outcome says why not."""

    room_id: str
    seq: int
    answer: Answer
    latency_ms: int


class RotationDue(msgspec.Struct, frozen=True, gc=False, tag="rotation"):
    """It may be a new hour, or nobody knows which bots are on."""


Inbox = Asked | Answered | RotationDue

decode = msgspec.msgpack.Decoder[Inbox](Inbox).decode
