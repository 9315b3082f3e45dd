"""Every row of wire.md that this version implements has a test that covers it.

Read from the sources, so that it holds whatever part of the tests is run. In a run that
this module is part of, the table is printed at the end (`tests/gateway/conftest.py`).
"""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.wire_rows import NAMED, NOT_YET, ROWS

TESTS = Path(__file__).parent


@cache
def marked() -> dict[str, list[str]]:
    """Row -> the tests that carry its mark, as node ids without parameters."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted(TESTS.rglob("test_*.py")):
        module = ast.parse(path.read_bytes())
        for test in module.body:
            if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = f"{path.relative_to(TESTS.parent).as_posix()}::{test.name}"
            for row in _rows(test):
                found[row].append(name)
    return found


def _rows(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [
        argument.value
        for mark in test.decorator_list
        if isinstance(mark, ast.Call)
        and isinstance(mark.func, ast.Name)
        and mark.func.id == "wire"
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_wire_has_a_test(row: str) -> None:
    assert marked()[row] or NAMED.get(row), f"nothing covers {row}: {ROWS[row]}"


@pytest.mark.parametrize("name", sorted({name for n in NAMED.values() for name in n}))
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    module = ast.parse((TESTS.parent / path).read_bytes())
    assert function in {getattr(each, "name", None) for each in module.body}


def test_the_table_names_rows_once() -> None:
    assert set(NAMED) <= set(ROWS)
    assert not set(NOT_YET) & set(ROWS)
