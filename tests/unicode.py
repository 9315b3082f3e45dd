"""`python -m tests.unicode DerivedCoreProperties.txt > cfmessenger/wire/ignorable.py`

Makes that module's table out of Unicode's own file, which Debian has in `unicode-data`
and unicode.org under `Public/<version>/ucd/`. Python's `unicodedata` does not have the
property; `test_visible` compares the table with Perl's and Node's.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

PROPERTY = "Default_Ignorable_Code_Point"

_HEAD = re.compile(r"# DerivedCoreProperties-([\d.]+)\.txt")
_LINE = re.compile(rf"([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*{PROPERTY}\b")

MODULE = '''"""Ignorable: the characters that Unicode {version} says to show as nothing.

Its property Default_Ignorable_Code_Point: joiners, fillers, variation selectors, tags
and what is reserved for more of them. `python -m tests.unicode` made this; edit that.
"""

RANGES = (
{ranges}
)
"""First and last code point of each run."""
'''


def merged(code_points: set[int]) -> list[tuple[int, int]]:
    """The runs of these code points."""
    starts = sorted(code for code in code_points if code - 1 not in code_points)
    ends = sorted(code for code in code_points if code + 1 not in code_points)
    return list(zip(starts, ends, strict=True))


def module(data: str) -> str:
    """The module's text, from the text of DerivedCoreProperties.txt."""
    head = _HEAD.match(data)
    assert head is not None, "the first line names the version"
    code_points: set[int] = set()
    for first, last in _LINE.findall(data):
        code_points.update(range(int(first, 16), int(last or first, 16) + 1))
    runs = merged(code_points)
    assert runs and all(a[1] + 1 < b[0] for a, b in pairwise(runs))
    lines = [f"    (0x{first:04X}, 0x{last:04X})," for first, last in runs]
    return MODULE.format(version=head[1], ranges="\n".join(lines))


if __name__ == "__main__":
    sys.stdout.write(module(Path(sys.argv[1]).read_text()))
