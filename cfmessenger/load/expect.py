"""Expectations: `p99<50ms`, `delivery.max<1s`, `loss==0`, judged on a result.

Owns the grammar, `<figure><comparison><number><unit>`, and the judging. Text is read
before any load is made, so that a mistyped one costs nothing. What was not measured
meets no expectation.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from .figure import VOCABULARY, kind_of, value_of
from .quantity import UNITS, UNKNOWN, digits
from .result import Expectation, Result

_COMPARE: Final = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SHAPE = re.compile(
    r"\s*(?P<name>[^\s<>=!]+)\s*(?P<sign>[<>=!]+)\s*"
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[^\s\d]*)\s*",
    re.ASCII,
)
_UNIT_ALIASES = {"µs": "us", "μs": "us"}


class Condition(NamedTuple):
    """An expectation that has been read; `limit` is in the kind's base unit."""

    text: str
    name: str
    sign: str
    limit: float
    unit: str
    scale: float  # base units in one `unit`

    def judge(self, result: Result) -> Expectation:
        """What the result says about it."""
        value = value_of(self.name, result)
        if value is None:
            return Expectation(text=self.text, value=None, holds=False)
        return Expectation(
            text=self.text,
            value=value / self.scale,
            holds=bool(_COMPARE[self.sign](value, self.limit)),
        )


def parse(text: str) -> Condition:
    """Read one expectation; ValueError names the text, the fault and what may be."""
    match = _SHAPE.fullmatch(text)
    if not match:
        raise _bad(text, "expected <figure><comparison><number><unit>, as in p99<50ms")
    name, sign = match["name"], match["sign"]
    kind = kind_of(name)
    if kind is None:
        raise _bad(text, f"there is no figure {name!r}", *VOCABULARY)
    if sign not in _COMPARE:
        raise _bad(text, f"{sign!r} is none of {'  '.join(_COMPARE)}")
    unit = _UNIT_ALIASES.get(match["unit"], match["unit"])
    number = float(match["number"])
    units = UNITS[kind]
    if unit not in units and not (unit == "" and number == 0):
        have = (
            "no unit"
            if list(units) == [""]
            else "one of " + ", ".join(filter(None, units))
        )
        raise _bad(
            text,
            f"{name} takes {have}, not {unit!r}" if unit else f"{name} needs {have}",
        )
    scale = units.get(unit, 1.0)
    return Condition(
        text=text.strip(),
        name=name,
        sign=sign,
        limit=number * scale,
        unit=unit,
        scale=scale,
    )


def judge(conditions: Iterable[Condition], result: Result) -> list[Expectation]:
    """Each condition judged, in order. `result` is only read."""
    return [condition.judge(result) for condition in conditions]


def found(expectation: Expectation) -> str:
    """What was found, in the unit that was asked in."""
    if expectation.value is None:
        return UNKNOWN
    try:
        unit = parse(expectation.text).unit
    except ValueError:  # written by a program that knows more figures
        unit = ""
    # Three digits would show a near miss as the limit: 20.015 ms is not <=20ms.
    value = expectation.value
    shown = f"{value:.5g}" if 0.001 <= abs(value) < 10_000 else digits(value)
    return f"{shown} {unit}".rstrip()


def _bad(text: str, *lines: str) -> ValueError:
    return ValueError("\n  ".join([f"expectation {text!r}: {lines[0]}", *lines[1:]]))
