"""The settings as people read them: the table in the README, and defaults in words.

Prints what `settings.py` says of each; the tests compare.
"""

from __future__ import annotations

from cfmessenger.environment import variable
from cfmessenger.settings import ABOUT, Settings


def default_of(field: str) -> str:
    """Its default, as a person writes it. Raises KeyError for no setting."""
    if ABOUT[field].default:
        return ABOUT[field].default
    value = getattr(Settings(), field)
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table() -> str:
    """The README's table."""
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for field, about in ABOUT.items():
        if about.section:
            rows.append(f"| **{about.section}** | | |")
        if about.help:
            name, default = variable(field), default_of(field)
            rows.append(f"| `{name}` | {default} | {about.help} |")
    return "\n".join(rows)
