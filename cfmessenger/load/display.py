"""A load test on a terminal: while it runs, and what came of it.

Owns the look. `live`, `line` and `summary` only read what they show; `Show` is the one
that writes. Text from the server is stripped of whatever could steer a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .board import Board, PhaseSecond
from .expect import found
from .figure import ranked, value_of
from .quantity import UNKNOWN, clock, counted, digits, duration, moment, show
from .result import Oracle, Result, Second, Server
from .tables import LABEL, bare_table, figures_table, plain, processes_table

__all__ = [
    "Board",
    "Show",
    "line",
    "live",
    "sparkline",
    "summary",
]

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 40  # seconds of sparkline
_EXAMPLES = 5
_GOOD, _BAD = "green", "bold red"
_LATER = Text("judges at the end", style=LABEL)


class Show:
    """Shows a board as it changes: a panel on a terminal, else a line a second."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._printed = 0
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                live(board), console=console, auto_refresh=False, transient=True
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Show what the board has become; call after each `Board.add`."""
        if self._live:
            self._live.update(live(self._board), refresh=True)
            return
        for each in self._board.seconds[self._printed :]:
            # Wide, not wrapped: a log keeps one second on one line.
            self._console.print(Text(line(each)), soft_wrap=True, highlight=False)
        self._printed = len(self._board.seconds)


def line(at: PhaseSecond) -> str:
    """A second as one plain line."""
    second = at.second
    words = [
        f"{at.phase:<10} {clock(second.t + 1):>5}",
        f"sent {second.sent:>6,}/s",
        f"acked {second.acked:>6,}/s",
        f"delivered {second.delivered:>8,}/s",
        f"p50 {duration(second.p50_us):>7}",
        f"p99 {duration(second.p99_us):>7}",
        f"max {duration(second.max_us):>7}",
        f"lag {duration(second.lag_us):>7}",
        f"sockets {second.sockets:,}",
        f"errors {second.errors:,}",
    ]
    return "  ".join(words)


def live(board: Board) -> RenderableType:
    """The panel of a running test."""
    now = board.seconds[-1].second if board.seconds else Second(t=0)
    return _panel(
        f"{board.scenario}  {board.url}",
        _bar(board),
        Text(),
        _flow(board, now),
        Text(),
        _facts(
            [
                ("sockets", Text(_sockets(now))),
                ("codes", _errors(board.counts)),
                ("generator", Text(_lag(board, now))),
                ("oracle", _LATER),
            ]
        ),
    )


def summary(result: Result) -> RenderableType:
    """What came of a test, for a terminal or a log."""
    facts = [
        ("errors", _errors(result.counts)),
        *_calm(result),
        *_refused(result),
        *_came(result),
        ("server", Text(_cost(result.server))),
        ("generator", _health(result)),
        ("oracle", _verdict(result.oracle)),
    ]
    parts: list[RenderableType] = [
        Text(_frame(result), style=LABEL),
        Text(),
        _amounts(result),
        Text(),
        _latencies(result),
        Text(),
        _facts(facts),
    ]
    parts += [
        Padding(Text(f"· {plain(example)}", style=_BAD), (0, 0, 0, 11))
        for example in result.oracle.examples[:_EXAMPLES]
    ]
    if (rest := len(result.oracle.examples) - _EXAMPLES) > 0:
        parts.append(Padding(Text(f"and {rest} more in the result"), (0, 0, 0, 11)))
    if result.server and result.server.processes:
        parts += [Text(), processes_table(result.server.processes)]
    if result.expectations:
        parts += [Text(), _expectations(result)]
    return _panel(f"{result.scenario}  {result.url}", *parts)


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, from nothing to the greatest; a blank where none is."""
    top = max((value for value in values if value is not None), default=0) or 1
    steps = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[round(value / top * steps)] for value in values
    )


def _panel(title: str, *parts: RenderableType) -> Panel:
    return Panel(
        Group(*parts),
        title=Text(plain(title), style="bold"),
        title_align="left",
        box=ROUNDED,
        border_style="blue",
        padding=(0, 1),
        expand=False,
        width=88,
    )


def _bar(board: Board) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(width=10)
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    left = UNKNOWN
    if board.phase_s:
        left = f"{clock(board.phase_s * (1 - board.done))} left"
    bar = ProgressBar(total=1.0, completed=board.done, complete_style="cyan")
    grid.add_row(Text(board.phase, style="bold"), bar, Text(left))
    return grid


def _flow(board: Board, now: Second) -> Table:
    table = figures_table("per second", "so far", width=10)
    table.add_column(f"last {_HISTORY} s", no_wrap=True, overflow="crop")
    recent = board.measured[-_HISTORY:]
    counts = board.counts
    counts["errors"] = sum(ranked("error.", counts).values())
    for name in ("sent", "acked", "delivered", "errors"):
        spark = sparkline([getattr(second, name) for second in recent])
        sofar = f"{counts.get(name, 0):,}"
        table.add_row(name, f"{getattr(now, name):,}", sofar, Text(spark, style="blue"))
    overall = board.overall or (None, None, None)
    for name, us in zip(("p50", "p99", "max"), overall, strict=True):
        spark = sparkline([getattr(second, f"{name}_us") for second in recent])
        at_once = duration(getattr(now, f"{name}_us"))
        table.add_row(
            f"ack {name}", at_once, duration(us), Text(spark, style="magenta")
        )
    return table


def _latencies(result: Result) -> Table:
    table = figures_table("count", "p50", "p90", "p99", "p99.9", "max")
    for name, data in result.histograms.items():
        if data.count:
            tail = (data.p50, data.p90, data.p99, data.p999, data.max)
            table.add_row(plain(name), f"{data.count:,}", *map(duration, tail))
    return table


def _amounts(result: Result) -> Table:
    table = figures_table("in all", "per second", "of sent")
    acked = value_of("ackedShare", result)
    for name in ("sent", "acked", "delivered"):
        rate = result.rates.get(name)
        per_second = UNKNOWN if rate is None else digits(rate)
        share = show(acked, "share") if name == "acked" else ""
        table.add_row(name, f"{result.counts.get(name, 0):,}", per_second, share)
    return table


def _expectations(result: Result) -> Table:
    table = bare_table()
    table.add_column("expectation", min_width=30)
    table.add_column("found", justify="right", min_width=9)
    table.add_column("", min_width=9)
    for expectation in result.expectations:
        holds = expectation.holds
        mark = Text("✓ holds" if holds else "✗ missed", style=_GOOD if holds else _BAD)
        table.add_row(Text(plain(expectation.text)), found(expectation), mark)
    return table


def _facts(rows: Iterable[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(style=LABEL, width=10)
    grid.add_column(ratio=1)
    for label, fact in rows:
        grid.add_row(label, fact)
    return grid


def _sockets(now: Second) -> str:
    moves = (
        f", {now.joined:,} joined, {now.left:,} left" if now.joined + now.left else ""
    )
    return f"{now.sockets:,}{moves}"


def _errors(counts: dict[str, int]) -> Text:
    kinds = [f"{plain(code)} {n:,}" for code, n in ranked("error.", counts).items()]
    kinds += [
        f"closed {plain(code)} {n:,}" for code, n in ranked("closed.", counts).items()
    ]
    # Counts of closes are facts, not faults: a test may close sockets on purpose.
    style = _BAD if ranked("error.", counts) else ""
    return Text(" · ".join(kinds) or "none", style=style)


def _calm(result: Result) -> list[tuple[str, Text]]:
    """What calm rooms noticed of the hot one."""
    p50, p99 = (value_of(f"calmRatio.{p}", result) for p in ("p50", "p99"))
    if p50 is None or p99 is None:
        return []
    text = f"p50 × {p50:.2f}, p99 × {p99:.2f} beside the hot one"
    return [("calm rooms", Text(text))]


def _refused(result: Result) -> list[tuple[str, Text]]:
    if result.scenario != "open":
        return []
    refused = result.counts.get("refused", 0)
    opened = result.histograms["first"].count if "first" in result.histograms else 0
    return [("opened", Text(f"{opened:,}, refused {refused:,}"))]


def _came(result: Result) -> list[tuple[str, Text]]:
    """What who comes within seconds is told on the way."""
    entered = result.histograms.get("entered")
    if entered is None:
        return []
    frames, size = (value_of(f"{n}PerSocket", result) for n in ("frames", "bytes"))
    text = (
        f"{entered.count:,} in after {duration(result.histograms['allIn'].max)}; "
        f"{show(frames, 'number')} frames, {show(size, 'bytes')} a socket"
    )
    return [("came", Text(text))]


def _lag(board: Board, now: Second) -> str:
    return (
        f"{counted(board.workers, 'worker')}, "
        f"lag {duration(now.lag_us)}, worst {duration(board.max_lag_us)}"
    )


def _verdict(oracle: Oracle) -> Text:
    if not oracle.checked_sockets:
        return Text("nothing checked", style=LABEL)
    if not oracle.violations:
        text = Text("✓ nothing lost, doubled or out of order", style=_GOOD)
    else:
        kinds = {
            "lost": oracle.lost,
            "doubled": oracle.duplicated,
            "out of order": oracle.reordered,
            "gaps": oracle.gaps,
        }
        faults = ", ".join(f"{kind} {n:,}" for kind, n in kinds.items() if n)
        text = Text(f"✗ {faults}", style=_BAD)
    sockets = counted(oracle.checked_sockets, "socket")
    rooms = counted(oracle.checked_rooms, "room")
    return text.append(f"  {sockets}, {rooms}", style=LABEL)


def _health(result: Result) -> Text:
    health = result.health
    figures = (
        f"lag {duration(health.max_lag_us)}, "
        f"event loop {duration(health.loop_lag_us)}, "
        f"busiest worker {show(health.cpu_share, 'share')} of a core"
    )
    if health.valid:
        return Text("✓ kept up", style=_GOOD).append(f"  {figures}", style=LABEL)
    text = Text("✗ not valid: ", style=_BAD)
    text.append(plain("; ".join(health.reasons) or "the generator fell behind"), _BAD)
    return text.append(f"  {figures}", style=LABEL)


def _cost(server: Server | None) -> str:
    if server is None:
        return UNKNOWN
    figures = [
        ("CPU {} s", server.cpu_s),
        ("{} µs a delivery", server.cpu_us_per_delivery),
        ("{} µs a message", server.cpu_us_per_message),
        ("{} KiB a socket", server.kib_per_socket),
    ]
    words = [text.format(digits(n)) for text, n in figures if n is not None]
    if server.memory_bytes is not None:
        words.append(f"memory {show(server.memory_bytes, 'bytes')}")
    return ", ".join(words) or UNKNOWN


def _frame(result: Result) -> str:
    words = [
        f"{clock(result.duration_s)} measured",
        f"{clock(result.warmup_s)} of warm-up before" if result.warmup_s else "",
        counted(result.workers, f"{result.worker_kind} worker") + result.machines,
        moment(result.started_at),
    ]
    return plain(" · ".join(filter(None, words)))
