"""Tables of a result, in Markdown for the pages and as plain text for the terminal.

Pure: a page's text goes in and comes out with the block between the markers replaced;
what is written by hand around it stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.meter import KINDS
from tests.bench.plan import FIGURES, FULL, ROWS, Figure, Sizes
from tests.bench.summary import Failure, Result, Spread, parts, ratios, spread, values

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"

OURS = ("auto", "pooled", "dedicated")
NONE = "–"


def replaced(text: str, block: str) -> str:
    """The page with `block` between its markers; they are added at the end if absent.

    Raises ValueError when there is only one of them, or they are not in order.
    """
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 and end < 0:
        return f"{text.rstrip()}\n\n{BEGIN}\n{block.strip()}\n{END}\n"
    if begin < 0 or end < begin:
        raise ValueError(f"expected {BEGIN} and then {END}")
    head, tail = text[: begin + len(BEGIN)], text[end:]
    return f"{head}\n{block.strip()}\n{tail}"


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def cell(found: Spread | None, *, sides: bool = True) -> str:
    """A median and, with `sides`, the least and the greatest."""
    if found is None:
        return NONE
    middle = number(found.median)
    if not sides or found.low == found.high:
        return middle
    return f"{middle} ({number(found.low)}–{number(found.high)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns as wide as they need to be in plain text."""
    lines = [list(head), *map(list, rows)]
    wide = [max(len(line[at]) for line in lines) for at in range(len(head))]
    rule = ["-" * wide[0]] + ["-" * (width - 1) + ":" for width in wide[1:]]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(line, wide, strict=True))
        )
        + " |"
        for line in lines
    )


def row_table(result: Result, row: str) -> str:
    """The figures of all who took part in a row; empty when nobody did."""
    columns = [each for each in FIGURES if each.row == row]
    lines = []
    for entrant in result.entrants:
        cells = [_cell(result, each, entrant.key) for each in columns]
        if set(cells) != {NONE}:
            lines.append([entrant.title, *cells])
    return table(["", *(each.title for each in columns)], lines) if lines else ""


def parts_table(result: Result, row: str) -> str:
    """What each kind of our processes takes of a row's CPU; empty without figures."""
    lines = []
    for figure in (each for each in FIGURES if each.row == row):
        for entrant in result.entrants:
            found = parts(result.samples, row, entrant.key, figure.key)
            if len(found) > 1:
                # Those of a peer that are not called as ours are `rest`: its server.
                known = {kind: found[kind] for kind in KINDS if kind in found}
                rest = [found[kind] for kind in found if kind not in KINDS]
                cells = [cell(known.get(kind), sides=False) for kind in KINDS[:-1]]
                last = known.get("rest") or (rest[0] if rest else None)
                title = f"{entrant.title}: {figure.title}"
                lines.append([title, *cells, cell(last, sides=False)])
    return table(["of that", *KINDS], lines) if lines else ""


def ratio_table(result: Result) -> str:
    """Ours through each peer's, for every figure of which less is better."""
    keys = [each.key for each in result.entrants]
    peers = [key for key in keys if key not in OURS]
    pairs = [(o, p) for o in OURS if o in keys for p in peers]
    pairs = [(o, p) for o, p in pairs if any(_ratios(result, o, p))]
    lines = []
    for each in (figure for figure in FIGURES if figure.less_is_better):
        found = [
            ratios(result.samples, each.row, each.key, ours, peer)
            for ours, peer in pairs
        ]
        if any(found):
            lines.append([f"{each.row}: {each.title}", *map(cell, found)])
    if not lines:
        return ""
    return table(["ours ÷ theirs", *(f"{o} ÷ {p}" for o, p in pairs)], lines)


def _ratios(result: Result, ours: str, peer: str) -> list[Spread | None]:
    return [
        ratios(result.samples, each.row, each.key, ours, peer)
        for each in FIGURES
        if each.less_is_better
    ]


def _cell(result: Result, figure: Figure, contestant: str, sides: bool = True) -> str:
    found = values(result.samples, figure.row, contestant, figure.key)
    return cell(spread(found.values()), sides=sides)


def notes(result: Result) -> str:
    """What is to be known of figures, each reason once."""
    said = [
        Failure(each.row, each.contestant, each.repetition, note)
        for each in result.samples
        for note in each.notes
    ]
    return _reasons(result, said)


def failures(result: Result) -> str:
    """Who has no figures where and why, each reason once."""
    return _reasons(result, result.failures)


def _reasons(result: Result, every: Sequence[Failure]) -> str:
    titles = {each.key: each.title for each in result.entrants}
    seen: dict[tuple[str, str, str], list[Failure]] = {}
    for each in every:
        # Counts differ from time to time; the kind of fault does not.
        kind = "".join("#" if c.isdigit() else c for c in each.reason)
        seen.setdefault((each.contestant, each.row, kind), []).append(each)
    return "\n".join(
        f"* {titles.get(key, key)}, {row}: {found[0].reason} "
        f"({len(found)} of {result.repetitions})"
        for (key, row, _), found in seen.items()
    )


def machine(result: Result) -> str:
    """Where it was measured, as a list."""
    facts = result.machine | result.versions
    return "\n".join(f"* {name}: {value}" for name, value in facts.items())


def page(result: Result) -> str:
    """The generated section of BENCHMARKS.md."""
    blocks = [
        f"Measured {result.started_at}; {_times(result)}",
        machine(result),
        table(
            ["contestant", "what a message is when it is seen"],
            [[each.title, each.promise] for each in result.entrants],
        ),
    ]
    for row in ROWS:
        if found := row_table(result, row.key):
            text = row.text.format(**_sizes(result, row.key))
            blocks += [f"### {row.title}", text, found]
            blocks += [parts_table(result, row.key)]
    if found := ratio_table(result):
        blocks += [
            "### Ratios",
            "Below 1 we need less than they do. Each is taken within a repetition.",
            found,
        ]
    if found := notes(result):
        blocks += ["### To be known of figures", found]
    if found := failures(result):
        blocks += ["### Without figures", found]
    return "\n\n".join(block for block in blocks if block)


def _times(result: Result) -> str:
    if result.repetitions == 1:
        return "once, so there is no spread."
    return (
        f"{result.repetitions} repetitions: the median, and in brackets the least and "
        "the greatest."
    )


def _sizes(result: Result, row: str) -> Sizes:
    return FULL[row] | result.plan.get(row, {})


def _median(result: Result) -> str:
    count = result.repetitions
    return f"median of {count}" if count > 1 else "one repetition"


def excerpt(result: Result) -> str:
    """The README's short table: ours that has most figures, some peers and ratios."""
    shown = [key for key in OURS if any(s.contestant == key for s in result.samples)]
    if not shown:
        return "No figures yet: `make bench`."
    ours = shown[0]
    titles = {each.key: each.title for each in result.entrants}
    divisors = [key for key in ("workerd", "node-ws", "nchan") if key in titles]
    peers = divisors + [key for key in ("channels",) if key in titles]
    lines = []
    for figure in (each for each in FIGURES if each.short):
        cells = [_cell(result, figure, key, sides=False) for key in (ours, *peers)]
        if cells[0] == NONE:
            continue
        shares = [
            cell(ratios(result.samples, figure.row, figure.key, ours, key), sides=False)
            for key in divisors
        ]
        lines.append([f"{figure.title}, {figure.short}", *cells, *shares])
    head = ["", *(titles[key] for key in (ours, *peers))]
    head += [f"÷ {titles[key]}" for key in divisors]
    where = result.machine
    return "\n\n".join(
        [
            table(head, lines),
            f"{where.get('CPU', 'unknown CPU')}, {where.get('cores', '?')} cores, "
            f"{where.get('memory', '?')}; {_median(result)}. Ours is "
            "durable (fsync before anybody sees a message), the peers store nothing. "
            "All rows, spreads and how to repeat it: [BENCHMARKS.md](BENCHMARKS.md).",
        ]
    )
