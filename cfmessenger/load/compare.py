"""Two results side by side: what changed, and whether that means anything.

Owns which figures are judged and by what rule. A figure is worse only if it moved
beyond the tolerance and, where every second was measured, the noise between seconds
does not explain it: the interval is a block bootstrap of the ratio of the median
seconds, with a fixed seed. Results that were not made alike are shown, but only their
correctness is judged. One run against one cannot see what differs from run to run.
"""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .figure import kind_of, value_of
from .quantity import UNKNOWN, Kind, digits, show
from .result import LATENCIES, Result, Second
from .tables import figures_table, plain

Verdict = Literal["better", "same", "worse", "unclear", "not judged"]

MARKS: Final[dict[Verdict, str]] = {
    "better": "▲",
    "same": "=",
    "worse": "▼",
    "unclear": "?",
    "not judged": " ",
}
_STYLES: Final[dict[Verdict, str]] = {
    "better": "green",
    "same": "",
    "worse": "bold red",
    "unclear": "yellow",
    "not judged": "dim",
}

TOLERANCE: Final = 0.10
_SEED = 2005
_LEAST_SECONDS = 5
_SAMPLES = 600_000  # values drawn per figure at most, so that an hour is no wait
# What a plan is told about this one run only, or what is compared on its own.
_IGNORED_SETTINGS = {
    "scenario", "target", "url", "namespace", "workers", "durationS", "warmupS",
    "seed", "run", "room",
}  # fmt: skip

_PerSecond = Callable[[Second], int | None]


class _Judged(NamedTuple):
    name: str
    better: Literal["lower", "higher", None] = None  # None: shown, not judged
    per_second: _PerSecond | None = None
    always: bool = False  # judged however the results were made, without tolerance


class Change(NamedTuple):
    """A figure before and after, in its kind's base unit."""

    name: str
    kind: Kind
    a: float | None
    b: float | None
    ratio: float | None  # b to a
    interval: tuple[float, float] | None  # 95 %, of the ratio of median seconds
    verdict: Verdict

    @property
    def moved(self) -> str:
        """By how much, in the figure's own unit."""
        if self.a is None or self.b is None:
            return UNKNOWN
        return _signed(self.b - self.a, show(abs(self.b - self.a), self.kind))

    @property
    def share(self) -> str:
        """By how much, of what it was."""
        return UNKNOWN if self.ratio is None else _percent(self.ratio)

    @property
    def noise(self) -> str:
        """The interval, in per cent of change."""
        if self.interval is None:
            return ""
        low, high = (round((ratio - 1) * 100) for ratio in self.interval)
        return f"{_signed(low, str(abs(low)))} … {_signed(high, str(abs(high)))} %"


class Difference(NamedTuple):
    """How the two tests themselves differ; `blocks` if figures then mean nothing."""

    what: str
    a: str
    b: str
    blocks: bool


class Comparison(NamedTuple):
    """A newer result measured by an older one, `a`."""

    a: Result
    tolerance: float
    changes: list[Change]
    differences: list[Difference]

    @property
    def comparable(self) -> bool:
        """Whether more than correctness could be judged."""
        return not any(difference.blocks for difference in self.differences)

    @property
    def worse(self) -> list[Change]:
        """What became worse beyond the tolerance."""
        return [change for change in self.changes if change.verdict == "worse"]


def compare(a: Result, b: Result, tolerance: float = TOLERANCE) -> Comparison:
    """Compare `b`, the newer result, with `a`; a tolerance of 0.1 is 10 %."""
    differences = _differences(a, b)
    alike = not any(difference.blocks for difference in differences)
    changes = [_change(judged, a, b, tolerance, alike) for judged in _figures(a, b)]
    shown = [c for c in changes if c.a is not None or c.b is not None]
    return Comparison(a, tolerance, shown, differences)


def exit_code(comparison: Comparison) -> int:
    """0: nothing got worse; 3: something did; 4: the results cannot be compared."""
    if comparison.worse:
        return 3
    return 0 if comparison.comparable else 4


def parse_tolerance(text: str) -> float:
    """`10%` or `0.1`; ValueError says how it should be."""
    match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,6})?)\s*(%?)\s*", text, re.ASCII)
    if not match:
        raise ValueError(f"tolerance {text!r}: expected a share such as 10% or 0.1")
    return float(match[1]) / (100 if match[2] else 1)


def _figures(a: Result, b: Result) -> list[_Judged]:
    figures = [
        _Judged("violations", "lower", always=True),
        _Judged("errors", "lower", always=True),
    ]
    for name in LATENCIES:
        if name in a.histograms or name in b.histograms:
            own = name == "ack"  # the seconds tell of acks
            figures += [
                _Judged(f"{name}.p50", "lower", _p50 if own else None),
                _Judged(f"{name}.p90", "lower"),
                _Judged(f"{name}.p99", "lower", _p99 if own else None),
                # Too few values to tell one run from the next.
                _Judged(f"{name}.p99.9"),
                _Judged(f"{name}.max"),
            ]
    return [
        *figures,
        _Judged("rate.sent", None, lambda second: second.sent),
        _Judged("rate.acked", "higher", lambda second: second.acked),
        _Judged("rate.delivered", "higher", lambda second: second.delivered),
        _Judged("cpuUsPerDelivery", "lower"),
        _Judged("cpuUsPerMessage", "lower"),
        _Judged("kibPerSocket", "lower"),
        _Judged("memory"),
        _Judged("lag"),
    ]


def _p50(second: Second) -> int | None:
    return second.p50_us


def _p99(second: Second) -> int | None:
    return second.p99_us


def _change(
    judged: _Judged, a: Result, b: Result, tolerance: float, alike: bool
) -> Change:
    kind = kind_of(judged.name)
    assert kind is not None, judged.name
    before, after = value_of(judged.name, a), value_of(judged.name, b)
    ratio = None
    # Memory that fell during a test makes a cost below nothing, which has no ratio.
    if before is not None and after is not None and before > 0 and after >= 0:
        ratio = after / before
    interval = None
    if judged.per_second is not None and ratio is not None:
        interval = ratio_interval(_values(judged, a), _values(judged, b))
    verdict: Verdict = "not judged"
    if before is not None and after is not None and judged.better:
        if judged.always:
            verdict = "worse" if after > before else "same"
            verdict = "better" if after < before else verdict
        elif alike and ratio is not None:
            verdict = _judge(judged.better, before, after, interval, tolerance)
    return Change(judged.name, kind, before, after, ratio, interval, verdict)


def _judge(
    better: Literal["lower", "higher"],
    before: float,
    after: float,
    interval: tuple[float, float] | None,
    tolerance: float,
) -> Verdict:
    if abs(after - before) <= before * tolerance:
        return "same"
    if interval and interval[0] <= 1 <= interval[1]:
        return "unclear"
    return "better" if (after < before) is (better == "lower") else "worse"


def _values(judged: _Judged, result: Result) -> list[float]:
    assert judged.per_second is not None
    values = (judged.per_second(second) for second in result.series)
    return [float(value) for value in values if value is not None]


def ratio_interval(
    a: Sequence[float], b: Sequence[float]
) -> tuple[float, float] | None:
    """Where 95 % of the resampled ratios of the median of `b` to that of `a` lie.

    Neighbouring seconds are alike, so blocks of them are drawn, not single ones. None
    if there are too few seconds, or a median of 0.
    """
    if min(len(a), len(b)) < _LEAST_SECONDS:
        return None
    chance = random.Random(_SEED)
    rounds = min(1000, max(200, _SAMPLES // (len(a) + len(b))))
    ratios = []
    for _ in range(rounds):
        below = statistics.median(_resampled(a, chance))
        if not below:
            return None
        ratios.append(statistics.median(_resampled(b, chance)) / below)
    ratios.sort()
    return ratios[int(0.025 * rounds)], ratios[math.ceil(0.975 * rounds) - 1]


def _resampled(values: Sequence[float], chance: random.Random) -> list[float]:
    size = len(values)
    block = max(1, round(size ** (1 / 3)))
    drawn: list[float] = []
    while len(drawn) < size:
        start = chance.randrange(size)
        drawn += [values[(start + n) % size] for n in range(block)]
    return drawn[:size]


def _differences(a: Result, b: Result) -> list[Difference]:
    found = []

    def differ(what: str, one: object, other: object, *, blocks: bool = True) -> None:
        if one != other:
            found.append(Difference(what, _said(one), _said(other), blocks))

    differ("scenario", a.scenario, b.scenario)
    differ("target", a.target, b.target)
    differ("workers", a.workers, b.workers)
    differ("kind of workers", a.worker_kind, b.worker_kind)
    for key in sorted({*a.settings, *b.settings} - _IGNORED_SETTINGS):
        differ(f"setting {key}", a.settings.get(key), b.settings.get(key))
    differ("processors", a.host.cpus, b.host.cpus)
    differ("processor", a.host.model, b.host.model)
    if not (a.health.valid and b.health.valid):
        found.append(Difference("generator", _kept_up(a), _kept_up(b), True))
    if not math.isclose(a.duration_s, b.duration_s, rel_tol=0.05):
        differ("duration", a.duration_s, b.duration_s, blocks=False)
    differ("warm-up", a.warmup_s, b.warmup_s, blocks=False)
    differ("seed", a.settings.get("seed"), b.settings.get("seed"), blocks=False)
    differ("host", a.host.name, b.host.name, blocks=False)
    differ("kernel", a.host.kernel, b.host.kernel, blocks=False)
    for name in sorted({*a.versions, *b.versions}):
        differ(name, a.versions.get(name), b.versions.get(name), blocks=False)
    return found


def conclusion(comparison: Comparison) -> str:
    """The comparison in a few sentences."""
    of: dict[str, list[str]] = {}
    for change in comparison.changes:
        of.setdefault(change.verdict, []).append(change.name)
    said = []
    if not comparison.comparable:
        said.append("The tests were not made alike: only correctness is judged.")
    said += [
        f"{verdict.capitalize()}: {', '.join(of[verdict])}."
        for verdict in ("worse", "better")
        if verdict in of
    ]
    if "worse" not in of:
        said.append(f"Nothing is worse by more than {comparison.tolerance * 100:g} %.")
    if names := of.get("unclear"):
        said.append(f"Within the noise, so repeat the runs: {', '.join(names)}.")
    return " ".join(said)


def table(comparison: Comparison) -> RenderableType:
    """The comparison for a terminal of 80 columns."""
    changes = figures_table("before", "after", "moved", "change", "noise", width=8)
    for change in comparison.changes:
        style = _STYLES[change.verdict]
        changes.add_row(
            Text(f"{MARKS[change.verdict]} {change.name}", style=style),
            show(change.a, change.kind),
            show(change.b, change.kind),
            change.moved,
            Text(change.share, style=style),
            change.noise,
        )
    legend = "   ".join(f"{mark} {v}" for v, mark in MARKS.items() if mark != " ")
    parts: list[RenderableType] = [changes, Text(f"\n{legend}", style="dim")]
    if comparison.differences:
        differences = Table.grid(padding=(0, 2))
        for difference in comparison.differences:
            differences.add_row(
                Text(plain(difference.what), style="bold" if difference.blocks else ""),
                Text(f"{plain(difference.a)} → {plain(difference.b)}"),
            )
        parts += [Text("\nThe tests differ in:"), differences]
    style = "bold red" if exit_code(comparison) else "green"
    return Group(*parts, Text(f"\n{conclusion(comparison)}", style=style))


def _kept_up(result: Result) -> str:
    if result.health.valid:
        return "kept up"
    return "; ".join(result.health.reasons) or "fell behind"


def _said(value: object) -> str:
    return UNKNOWN if value is None or value == "" else str(value)


def _percent(ratio: float) -> str:
    if ratio >= 10:
        return f"× {digits(ratio)}"
    return _signed(ratio - 1, f"{abs(ratio - 1) * 100:.1f} %")


def _signed(value: float, size: str) -> str:
    if size.split()[0].strip("0.") == "":
        return size
    return f"{'+' if value > 0 else '−'}{size}"
