"""The frame of a page that people open from a file: no script, no request.

Owns what all reports have: the head with its policy, by which the page may load and run
nothing, sections, grids and cards (`report.css` is their look).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .markup import Markup, tag

_CSS = Path(__file__).with_name("report.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"


def document(title: str, *body: Markup | None) -> str:
    """A whole page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(_CSS.read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


def section(title: str, *parts: Markup | None) -> Markup | None:
    """A part of the page; nothing if there is nothing in it."""
    return tag("section", tag("h2", title), *parts) if any(parts) else None


def grid(style: str, items: Iterable[Markup]) -> Markup | None:
    """Things beside each other."""
    found = list(items)
    return tag("div", *found, class_=style) if found else None


def card(said: str, about: str, good: bool | None) -> Markup:
    """A verdict."""
    style = "card" if good is None else f"card {'good' if good else 'bad'}"
    return tag("li", tag("b", said), tag("span", about), class_=style)
