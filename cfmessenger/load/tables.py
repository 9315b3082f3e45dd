"""The plain tables of a terminal, and text that cannot steer it.

Owns the look that all of them have, and the one table that several reports show: what
the server's processes did with their time.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .quantity import show
from .result import Process

LABEL = "dim"
MOST_PROCESSES = 6


def plain(text: str) -> str:
    """Text from outside without what could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def figures_table(*columns: str, width: int = 9) -> Table:
    """An empty table of figures: a label, then these columns."""
    table = bare_table()
    table.add_column("", style=LABEL, min_width=10, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    return table


def bare_table() -> Table:
    """One without columns yet."""
    return Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style=LABEL,
        border_style=LABEL,
    )


def processes_table(processes: Sequence[Process]) -> Group:
    """What the busiest of the server's processes did with their time."""
    table = figures_table("pid", "of a core", "user", "system", "waited")
    shown = processes[:MOST_PROCESSES]
    for each in shown:
        shares = [each.share, each.user, each.system, each.waited]
        cells = [show(share, "share") for share in shares]
        table.add_row(brief(each), str(each.pid), *cells)
    threads = [
        Text(f"threads of {each.pid}: {said}", style=LABEL)
        for each in shown
        if (said := threads_of(each))
    ]
    return Group(table, *threads)


def brief(process: Process) -> str:
    """Its name where there is little room."""
    return plain(process.name.removeprefix("cfmessenger ").removesuffix("-process"))


def threads_of(process: Process) -> str:
    """The busiest threads by name, where one is not all."""
    named = [f"{plain(n)} {share:.0%}" for n, share in process.threads.items()]
    return ", ".join(named) if len(named) > 1 else ""
