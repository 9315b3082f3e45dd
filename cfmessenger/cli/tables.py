"""Tables for people: nothing is cut, on a narrow terminal neither.

A cell that does not fit goes on in the next line; a pipe gets whole lines of whatever
width. Programs have `--json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

WIDEST = 10_000
"""A pipe's line."""

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Sequence[str] = (),
) -> None:
    """Print it; numbers to the right. The `whole` columns do not give way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [[str(cell) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        digits = all(row[number].isdigit() for row in cells)
        widest = max(cell_len(text) for text in (column, *(r[number] for r in cells)))
        table.add_column(
            column,
            justify="right" if digits else "left",
            min_width=widest if column in whole or digits else None,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table)


def age(ms: float) -> str:
    """For how long, in the largest unit of which there is one: `3 min`."""
    seconds = max(0, int(ms / 1000))
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def percent(share: float) -> str:
    """A share of 1 as people read it: `12.5 %`."""
    return f"{share * 100:.1f} %"
