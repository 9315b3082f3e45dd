"""What is run by hand still runs: nobody else would notice when something that it uses
has moved."""

import importlib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(
    ".".join(("tests", *path.relative_to(HERE).with_suffix("").parts))
    for path in HERE.rglob("*.py")
    if path != Path(__file__) and '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_loaded(name: str) -> None:
    assert importlib.import_module(name)
