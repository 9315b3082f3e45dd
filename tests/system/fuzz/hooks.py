"""What schemathesis has to know that the OpenAPI document cannot say.

JSON Schema counts code points and takes 1.0 for an integer; the wire counts UTF-16
units and does not. It cannot say either that a cursor is one that was given, or that an
order's total stays below 2^53. A valid case that breaks one of these is not sent; an
invalid one is, whatever else is wrong with it.
"""

from __future__ import annotations

from typing import Any

import schemathesis

from cfmessenger.data.registry import MAX_TOTAL


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: Any) -> bool:
    """Whether a case means what its schema thinks it means."""
    mode = case.meta.generation.mode if case.meta else None
    if mode is not None and mode.is_negative:
        return True
    query = case.query if isinstance(case.query, dict) else {}
    return "cursor" not in query and _plausible(case.body)


def _plausible(body: Any) -> bool:
    if not isinstance(body, dict):
        return True
    return _as_numbers_are_sent(body) and _name_fits(body) and _total_fits(body)


def _as_numbers_are_sent(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_as_numbers_are_sent, value.values()))
    if isinstance(value, list):
        return all(map(_as_numbers_are_sent, value))
    return not isinstance(value, float)


def _name_fits(body: dict[str, Any]) -> bool:
    name = body.get("displayName")
    return not isinstance(name, str) or len(name.encode("utf-16-le", "replace")) <= 100


def _total_fits(body: dict[str, Any]) -> bool:
    items = body.get("items")
    if not isinstance(items, list):
        return True
    return bool(sum(i["quantity"] * i["unitPrice"] for i in items) <= MAX_TOTAL)
