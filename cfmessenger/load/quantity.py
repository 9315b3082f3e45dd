"""Quantities: which units each kind may be written in, and how one is shown.

Pure text and arithmetic. Inside the harness a quantity is a plain number in its kind's
base unit: microseconds, bytes, per second, 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

Kind = Literal["duration", "count", "number", "rate", "share", "bytes"]

# unit: how many of the base unit; "" is a number without one.
UNITS: Final[dict[Kind, dict[str, float]]] = {
    "duration": {"us": 1, "ms": 1e3, "s": 1e6, "min": 6e7},
    "count": {"": 1},
    "number": {"": 1},
    "rate": {"/s": 1, "": 1},
    "share": {"%": 0.01, "": 1},
    "bytes": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
}
UNKNOWN = "–"


def show(value: float | None, kind: Kind) -> str:
    """A quantity for people: three digits and the unit that suits it."""
    if value is None:
        return UNKNOWN
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "duration":
        return duration(value)
    if kind == "rate":
        return f"{digits(value)} /s"
    if kind == "share":
        return f"{digits(value * 100)} %"
    if kind == "bytes":
        for unit in ("GiB", "MiB", "KiB"):
            if abs(value) >= UNITS["bytes"][unit]:
                return f"{digits(value / UNITS['bytes'][unit])} {unit}"
        return f"{value:.0f} B"
    return digits(value)


def duration(us: float | None) -> str:
    """Microseconds for people: 850 µs, 12.3 ms, 1.50 s, 2.00 min."""
    if us is None:
        return UNKNOWN
    # The limits are where three digits would round up into the next unit.
    if abs(us) < 999.5:
        return f"{digits(us)} µs"
    if abs(us) < 999_500:
        return f"{digits(us / 1e3)} ms"
    if abs(us) < 119_500_000:
        return f"{digits(us / 1e6)} s"
    return f"{digits(us / 6e7)} min"


def clock(seconds: float) -> str:
    """A span on a watch: 0:07, 12:30, 1:02:03."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def counted(n: int, thing: str) -> str:
    """1 room, 2,000 rooms."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def moment(iso: str) -> str:
    """An ISO 8601 time to the second, in UTC; as it is if it is none."""
    try:
        at = datetime.fromisoformat(iso)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return iso
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def digits(value: float) -> str:
    """Three digits, more only before the point, where commas group them."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        return f"{value:.1e}"
    for limit, places in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if size < limit:
            return f"{value:.{places}f}"
    return f"{value:,.0f}"
