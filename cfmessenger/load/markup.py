"""HTML and SVG as text, put together so that nothing is left unescaped by mistake.

A child that is `Markup` goes in as it is, any other is escaped. Attributes are keyword
arguments: `class_`, `aria_label`; None leaves one out.
"""

from __future__ import annotations

from html import escape

_VOID = {"br", "link", "meta"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(
    name: str, /, *children: object, **attributes: str | float | bool | None
) -> Markup:
    """An element with its children, one after another."""
    written = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            text = "" if value is True else escape(str(value))
            written.append(f'{key}="{text}"')
    start = f"<{' '.join(written)}>"
    return Markup(start if name in _VOID else f"{start}{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """Children without an element around them; None is nothing."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(str(child))
            for child in children
            if child is not None
        )
    )
