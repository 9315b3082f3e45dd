"""How much a messenger takes: the search for it, the verdicts, and what was the limit.

Pure. `Search` says what to try next: twice as much until something breaks, then the
middle of what held and what did not. `step_of` says what broke in a result, `limit`
which process was in the way and what it did with its time. Field names in JSON are
camelCase; shares are of a core, 0 to 1, unless they say otherwise.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .figure import closes_of, errors_of, value_of
from .plan import Scenario
from .result import Host, Process, Result

VERSION = 1

Axis = Literal["rate", "sockets", "rooms"]

AXES: Final[dict[Scenario, Axis]] = {
    "fanout": "rate",
    "rooms": "rate",
    "mixed": "rate",
    "presence-storm": "rate",
    "idle": "sockets",
    "crowd": "sockets",
    "gather": "sockets",
    "open": "rooms",
}
"""What is raised in which scenario; the others are not about how much."""

UNITS: Final[dict[Axis, str]] = {
    "rate": "messages a second",
    "sockets": "sockets",
    "rooms": "conversations",
}

LATENCY: Final[dict[Scenario, str]] = {
    "presence-storm": "delivery",
    "idle": "connect",
    "crowd": "entered",
    "gather": "entered",
    "open": "first",
}
"""Which latency is judged; of the others the acks'."""

_PACED: Final[tuple[Scenario, ...]] = ("fanout", "rooms")
"""Where every message is to be acknowledged, so that an ack rate says who kept up."""

HALVINGS = 6
"""So often less is tried when the first value did not hold."""


class _Struct(msgspec.Struct, rename="camel"):
    pass


class Thresholds(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """What must not be exceeded: the latency's p99, the share of what was refused or
    closed, the share of a core of any process; and what must be acknowledged of what
    was to be said."""

    p99_us: int = 50_000
    refused: float = 0.001
    core: float = 0.95
    kept: float = 0.95


class Step(_Struct, kw_only=True):
    """One try: at which value, and what broke; nothing: it held.

    `generator` is its busiest worker's share of a core, `machine` of all cores.
    """

    value: float
    broke: list[str] = []
    p50_us: int | None = None
    p99_us: int | None = None
    acked_per_s: float | None = None
    refused: float = 0.0
    generator: float = 0.0
    generator_valid: bool = True
    machine: float | None = None
    processes: list[Process] = []

    @property
    def held(self) -> bool:
        return not self.broke

    @property
    def busiest(self) -> Process | None:
        """Of the server's processes, if any were looked at."""
        return self.processes[0] if self.processes else None


class Limit(_Struct, kw_only=True):
    """What was in the way at the first value that broke. `functions` is where its
    process was seen, by share of the samples, if it was sampled."""

    kind: Literal["process", "machine", "generator", "waiting", "unknown"]
    text: str
    process: Process | None = None
    functions: dict[str, float] = {}


class Capacity(_Struct, kw_only=True):
    """A whole search. `held` and `broke` are the greatest value that held and the least
    that did not; None: there was none. `ended` is why it ended."""

    version: int = VERSION
    scenario: Scenario
    axis: Axis
    url: str = ""
    started_at: str = ""
    settings: dict[str, object] = {}
    host: Host = msgspec.field(default_factory=Host)
    versions: dict[str, str] = {}
    thresholds: Thresholds = msgspec.field(default_factory=Thresholds)
    steps: list[Step] = []
    held: float | None = None
    broke: float | None = None
    ended: Literal["precise", "top", "nothing held", "time", "violation"] = "precise"
    limit: Limit | None = None
    violations: list[str] = []

    @property
    def breaking(self) -> Step | None:
        """The step at the least value that broke."""
        found = [step for step in self.steps if step.value == self.broke]
        return found[-1] if found else None


class Search:
    """What to try next. `held` and `broke` are what is known so far."""

    def __init__(self, start: float, top: float, precision: float) -> None:
        """`precision`: how much above what held may be unknown, 0.1 is 10 %."""
        self.held: float | None = None
        self.broke: float | None = None
        self._start = start
        self._top = top
        self._precision = precision

    @property
    def ended(self) -> Literal["precise", "top", "nothing held"] | None:
        """Why there is nothing more to try, if so."""
        if self.held is None:
            least = max(1.0, self._start / 2**HALVINGS)
            gave_up = self.broke is not None and self.broke <= least
            return "nothing held" if gave_up else None
        if self.held >= self._top:
            return "top"
        if self.broke is None:
            return None
        near = self.broke <= self.held * (1 + self._precision)
        return "precise" if near or self.broke - self.held <= 1 else None

    def next(self) -> float | None:
        """The value to try; a whole number. None: it has ended."""
        if self.ended:
            return None
        if self.broke is None:
            doubled = self._start if self.held is None else 2 * self.held
            return min(float(round(doubled)), self._top)
        if self.held is None:
            return float(max(1, round(self.broke / 2)))
        return float(round((self.held + self.broke) / 2))

    def tell(self, value: float, held: bool) -> None:
        """What became of a value."""
        if held:
            self.held = max(value, self.held or 0.0)
        else:
            self.broke = value if self.broke is None else min(value, self.broke)


def step_of(
    result: Result, scenario: Scenario, value: float, thresholds: Thresholds
) -> Step:
    """What a run at this value says."""
    latency = LATENCY.get(scenario, "ack")
    p50, p99 = (value_of(f"{latency}.{each}", result) for each in ("p50", "p99"))
    server = result.server
    step = Step(
        value=value,
        p50_us=None if p50 is None else int(p50),
        p99_us=None if p99 is None else int(p99),
        acked_per_s=result.rates.get("acked") if AXES[scenario] == "rate" else None,
        refused=_refused(result),
        generator=result.health.cpu_share,
        generator_valid=result.health.valid,
        machine=server.machine if server else None,
        processes=server.processes if server else [],
    )
    step.broke = _broken(step, result, scenario, latency, thresholds)
    return step


def _refused(result: Result) -> float:
    counts = result.counts
    tried = max(counts.get("sent", 0), result.settings.get("sockets", 0), 1)
    refused = sum(errors_of(result).values()) + counts.get("refused", 0)
    return float((refused + sum(closes_of(result).values())) / tried)


def _broken(
    step: Step,
    result: Result,
    scenario: Scenario,
    latency: str,
    thresholds: Thresholds,
) -> list[str]:
    broke = []
    if result.oracle.violations:
        broke.append("messages were lost, doubled or out of order")
    if step.p99_us is None:
        broke.append(f"nothing was measured of {latency}")
    elif step.p99_us > thresholds.p99_us:
        found, most = step.p99_us / 1000, thresholds.p99_us / 1000
        broke.append(f"{latency} p99 is {found:.4g} ms, above {most:.4g}")
    if step.refused > thresholds.refused:
        broke.append(f"{step.refused:.2%} were refused or closed")
    acked = step.acked_per_s or 0.0
    # What was answered after the last was said counts as well, if it came in time.
    late_s = result.duration_s - result.settings.get("durationS", 0.0)
    behind = acked < thresholds.kept * step.value and late_s * 1e6 > thresholds.p99_us
    if scenario in _PACED and behind:
        broke.append(f"only {acked:,.0f} of {step.value:,.0f} a second were answered")
    busiest = step.busiest
    if busiest is not None and busiest.share >= thresholds.core:
        broke.append(f"{busiest.name} took {busiest.share:.0%} of a core")
    if not step.generator_valid:
        broke += [f"the generator: {reason}" for reason in result.health.reasons]
    return broke


def limit(step: Step, thresholds: Thresholds) -> Limit:
    """What was in the way of a step that broke."""
    busiest = step.busiest
    if busiest is not None and busiest.share >= thresholds.core:
        text = f"{_did(busiest)}: it is at a full core"
        return Limit(kind="process", text=text, process=busiest)
    if step.machine is not None and step.machine >= thresholds.core:
        server = sum(each.share for each in step.processes)
        most = f", most of it {_did(busiest)}" if busiest else ""
        text = (
            f"all cores of the machine were taken ({step.machine:.0%}): the "
            f"generator's busiest worker took {step.generator:.2f} of them, the server "
            f"{server:.2f}{most}"
        )
        return Limit(kind="machine", text=text, process=busiest)
    if not step.generator_valid:
        text = (
            "the generator itself did not keep up: more --workers, or another machine"
        )
        return Limit(kind="generator", text=text, process=busiest)
    if busiest is None:
        text = "not known: --procs says which processes of this machine are the server"
        return Limit(kind="unknown", text=text)
    text = (
        "no process was at a full core, so something was waited for (a disk, a lock, a "
        f"limit of the server's); the busiest was {_did(busiest)}"
    )
    return Limit(kind="waiting", text=text, process=busiest)


def _did(process: Process) -> str:
    waited = f", waiting {process.waited:.0%} for a core" if process.waited else ""
    return (
        f"{process.name} ({process.pid}), {process.share:.0%} of a core: "
        f"{process.user:.0%} its own code, {process.system:.0%} in the kernel{waited}"
    )


def encode(capacity: Capacity) -> bytes:
    """The JSON of a search, indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(capacity), indent=1) + b"\n"
