"""The director's effects: what it wants done that no other object does.

Must not do anything: `actors/bots/` thinks, and `derived` says what is written.
"""

from ..chat.effects import GuestEffect
from .talk import Answer, Question


class Think(GuestEffect, frozen=True, gc=False):
    """Find an answer; it comes back as the notification `Answered`, or never.

    With `excuse` there is nothing to find: that is said, unless bots are switched off.
    """

    question: Question
    excuse: Answer | None = None


class Count(GuestEffect, frozen=True, gc=False):
    """Add to a figure of a bot's day (days since 1970). Best effort."""

    day: int
    bot_id: str
    figure: str
    amount: int = 1


class Spent(GuestEffect, frozen=True, gc=False):
    """Show how many of a day's answers are used up, by this person or by all (None)."""

    day: int
    user_id: str | None
    count: int


class Active(GuestEffect, frozen=True, gc=False):
    """Write `bots:active` (these are in rotation, and no others) and `bots:line` (the
    order in which every bot's turn comes). Best effort."""

    bot_ids: tuple[str, ...]
    line: tuple[str, ...] = ()
