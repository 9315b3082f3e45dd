"""The tables of a report: captioned, headings scoped, within reach of the keyboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .markup import Markup, joined, tag
from .quantity import show
from .result import Process
from .tables import MOST_PROCESSES, threads_of


def sheet(
    caption: str,
    head: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    quiet: bool = False,
) -> Markup:
    """A table whose first column names the rows; a `Markup` cell is a whole one.

    `quiet` leaves its caption to those who cannot see the heading above.
    """
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    lines = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(cell if isinstance(cell, Markup) else tag("td", cell) for cell in cells),
        )
        for name, *cells in rows
    ]
    table = tag(
        "table",
        tag("caption", caption, class_="quiet" if quiet else None),
        tag("thead", top),
        tag("tbody", *lines),
    )
    return _scrolled(caption, table)


def facts(caption: str, known: Mapping[str, str], more: Markup | None = None) -> Markup:
    """Names and what they are, and `more` below them."""
    lines = [
        tag("tr", tag("th", name, scope="row"), tag("td", fact))
        for name, fact in known.items()
    ]
    table = tag("table", tag("caption", caption), tag("tbody", *lines), class_="facts")
    return _scrolled(caption, joined(table, more))


def processes_sheet(processes: Sequence[Process], *, quiet: bool = False) -> Markup:
    """What the busiest of the server's processes did with their time."""
    head = ("", "pid", "Of a core", "User", "System", "Waited for one", "Threads")
    rows = [
        (
            each.name,
            str(each.pid),
            *(show(n, "share") for n in (each.share, each.user, each.system)),
            show(each.waited, "share"),
            tag("td", threads_of(each), class_="wrapped"),
        )
        for each in processes[:MOST_PROCESSES]
    ]
    return sheet("Processes of the server", head, rows, quiet=quiet)


def _scrolled(label: str, content: Markup) -> Markup:
    # Scrollable, so it must be within reach of the keyboard and have a name.
    return tag(
        "div", content, class_="sheet", role="region", aria_label=label, tabindex=0
    )
