"""Visible: whether a text shows anything at all.

Owns the one rule for messages, names and what people say about themselves (wire.md §2,
"not blank"): nothing is shown by white space, by what Unicode calls ignorable, and by
the few symbols that are drawn as an empty space. A client may ask the same of
`[^\\p{White_Space}\\p{Default_Ignorable_Code_Point}\\u2800…]`.
"""

import re

from .ignorable import RANGES

# A Braille cell without dots, a note without a head, and blanks between hieroglyphs.
DRAWN_EMPTY = (0x2800, 0x13441, 0x13442, 0x1D159)


def _range(first: int, last: int) -> str:
    return "-".join(map(_escaped, (first, last) if last > first else (first,)))


def _escaped(code_point: int) -> str:
    return f"\\u{code_point:04x}" if code_point < 0x10000 else chr(code_point)


# JavaScript's `\s` lacks the three controls and the next line that Python's has.
UNSEEN = r"\s\u001c-\u001f\u0085" + "".join(
    _range(first, last)
    for first, last in sorted([*RANGES, *((each, each) for each in DRAWN_EMPTY)])
)
"""The inside of a character class, for `re` and for JSON Schema's expressions alike."""

SHOWS = rf"(?=[\s\S]*[^{UNSEEN}])"
"""Goes in front of a pattern that is to match visible text alone."""

_VISIBLE = re.compile(f"[^{UNSEEN}]")


def shows(text: str) -> bool:
    """Whether a reader would see anything; most often the first character tells."""
    return _VISIBLE.search(text) is not None
