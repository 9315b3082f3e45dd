"""Entity tags of rows and the preconditions of RFC 9110 §13 on them; pure.

A row's tag is its revision, so it is strong; `If-Match` compares strongly (a weak tag
never matches), `If-None-Match` weakly. A header that cannot be read matches nothing.
"""

from __future__ import annotations

import re

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,(?:[ \t]*{_TAG})?)*[ \t,]*\Z")


def etag(revision: int) -> str:
    """The tag of a row that is at this revision."""
    return f'"{revision}"'


def matches(header: str, revision: int, *, weak: bool = False) -> bool:
    """Whether an `If-Match` (or, `weak`, an `If-None-Match`) names this revision."""
    if header.strip(" \t") == "*":
        return True
    if not _LIST.match(header):
        return False
    tags = re.findall(_TAG, header)
    return etag(revision) in [tag.removeprefix("W/") if weak else tag for tag in tags]
