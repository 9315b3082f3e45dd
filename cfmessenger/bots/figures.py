"""The bots' figures of a day, as the hash in Valkey holds them: `<bot>:<figure>`.

For whoever shows them: `cfmessenger bots` and /metrics. What they count is the
director's business. Must not read anything by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

REFUSED = "refused_"

Figures = dict[str, dict[str, int]]
"""By bot, then by figure."""


def read(stored: Mapping[bytes, bytes]) -> Figures:
    """The figures of a day; a field that cannot be one of ours is passed over."""
    found: Figures = {}
    for field, value in stored.items():
        bot_id, colon, figure = field.decode(errors="replace").rpartition(":")
        try:
            amount = int(value)
        except ValueError:
            continue
        if colon and bot_id:
            found.setdefault(bot_id, {})[figure] = amount
    return found


def refusals(figures: Mapping[str, int]) -> dict[str, int]:
    """By reason, without the prefix."""
    return {
        name.removeprefix(REFUSED): amount
        for name, amount in figures.items()
        if name.startswith(REFUSED)
    }


def mean_latency_ms(figures: Mapping[str, int]) -> int | None:
    """From question to answer; None without an answer."""
    count = figures.get("latency_count", 0)
    return round(figures.get("latency_ms", 0) / count) if count else None
