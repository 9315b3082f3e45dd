"""What the bots did and who of them is there, as Valkey keys that follow from the
director's effects: written behind, best effort, and no promise rests on them.

Commands only; sending them is the shell's.
"""

import time
from collections.abc import Callable
from typing import Any

from ..chat.effects import GuestEffect
from ..storage import keys
from ..storage.valkey import Command, Multi
from .effects import Active, Count, Spent

DAY_TTL_S = 48 * 3600
ACTIVE_TTL_S = 3600 + 300
"""The hour of a rotation, and time for the next one to replace it."""

Commands = list[Command | Multi]


def _count(told: Count) -> Commands:
    key = keys.bots_metrics(_date(told.day))
    field = f"{told.bot_id}:{told.figure}"
    counted = ("HINCRBY", key, field, told.amount)
    return [Multi(key, [counted, ("EXPIRE", key, DAY_TTL_S)])]


def _spent(told: Spent) -> Commands:
    key = keys.bots_quota(_date(told.day), told.user_id)
    return [("SET", key, told.count, "EX", DAY_TTL_S)]


def _active(told: Active) -> Commands:
    """The set in one transaction, so that no reader finds it empty between."""
    key, bots = keys.BOTS_ACTIVE, told.bot_ids
    put: list[Command] = (
        [("SADD", key, *bots), ("EXPIRE", key, ACTIVE_TTL_S)] if bots else []
    )
    line = ("SET", keys.BOTS_LINE, " ".join(told.line), "EX", ACTIVE_TTL_S)
    return [Multi(key, [("DEL", key), *put]), line]


def _date(day: int) -> str:
    """`2026-01-31`, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


DERIVED: dict[type[GuestEffect], Callable[[Any], Commands]] = {
    Count: _count,
    Spent: _spent,
    Active: _active,
}
"""By effect, what is written for it."""
