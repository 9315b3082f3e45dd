"""A plot as an SVG file that stands for itself, for a page in Markdown.

The drawing is the load reports' (`cfmessenger.load.plot`); there a page's style sheet
gives it colours, here the file itself has to, and its caption and legend too.
"""

from __future__ import annotations

import re

from cfmessenger.load.markup import Markup, joined, tag
from cfmessenger.load.plot import HEIGHT, WIDTH, Axis, Curve, plot

COLOURS = {"s0": "#0d7377", "s1": "#3556c9", "s2": "#c2410c", "s3": "#8b3fa8"}
HEAD = 44
KEY = 92
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5b6472 }
.title { font-size: 14px; font-weight: 600; fill: #1b1f27 }
.end { text-anchor: end } .middle { text-anchor: middle }
.label { font-size: 11px; font-style: italic }
.grid { stroke: #e9ecf1 } .axis, .tick { stroke: #8b93a1 }
.grid, .axis, .tick { fill: none; stroke-width: 1 }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round }
.old { color: #8b93a1 } .dashed { stroke-dasharray: 5 4 }
"""


def picture(title: str, description: str, x: Axis, y: Axis, lines: list[Curve]) -> str:
    """The whole file."""
    figure = plot(title, description, x, y, lines)
    found = re.search(r"<svg[^>]*>(.*)</svg>", figure, re.DOTALL)
    assert found is not None, "a plot is an svg"
    colours = " ".join(f".{name} {{ color: {c} }}" for name, c in COLOURS.items())
    svg = tag(
        "svg",
        tag("style", Markup(_STYLE + colours)),
        tag("rect", width=WIDTH, height=HEIGHT + HEAD, fill="#fff"),
        tag("text", title, x=0, y=16, class_="title"),
        *(_key(n, line) for n, line in enumerate(lines)),
        tag("g", Markup(found[1]), transform=f"translate(0 {HEAD})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT + HEAD}",
        width=WIDTH,
        height=HEIGHT + HEAD,
        role="img",
    )
    return f"{svg}\n"


def _key(n: int, line: Curve) -> Markup:
    at = n * KEY
    return joined(
        tag("path", d=f"M{at} 32h16", class_=f"line {line.style}"),
        tag("text", line.name, x=at + 22, y=36),
    )
