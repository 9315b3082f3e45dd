"""A setting more is one field of `Settings`: flags, help and tables follow from it.

Whoever has to touch another file for it has found a list that is kept by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.added_type import tree

FIELD = """
    teapots: Annotated[
        Positive, About("Pots of tea that are kept warm.", section="Kitchen")
    ] = 3
    crash_at: Annotated["""
EDITS = {"cfmessenger/settings.py": [("\n    crash_at: Annotated[", FIELD)]}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree.grow(tmp_path_factory.mktemp("tree"), EDITS)


def said(copy: Path, code: str, **env: str) -> str:
    ran = tree.run(copy, "-c", code, **env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_it_is_read_from_the_environment_and_handed_on(copy: Path) -> None:
    code = """
import os
from cfmessenger.settings import Settings
found = Settings.load(os.environ)
assert Settings.load(found.to_env()) == found
print(found.teapots, "teapots=" in repr(found))
"""
    assert said(copy, code) == "3 True"
    assert said(copy, code, CFM_TEAPOTS="12") == "12 True"


def test_it_has_a_row_in_the_table_that_people_read(copy: Path) -> None:
    table = said(
        copy, "from cfmessenger.cli.settings_help import table; print(table())"
    )
    row = "| `CFM_TEAPOTS` | 3 | Pots of tea that are kept warm. |"
    assert f"| **Kitchen** | | |\n{row}" in table


def test_it_is_a_flag_of_which_help_all_tells(copy: Path) -> None:
    known = " ".join(tree.run(copy, "-m", "cfmessenger", "up", "--help").stdout.split())
    everything = tree.run(copy, "-m", "cfmessenger", "up", "--help-all")
    told = " ".join(everything.stdout.split())
    assert "--port TEXT" in known and "--teapots" not in known
    assert "--teapots TEXT Pots of tea that are kept warm. [default: 3;" in told
    assert "CFM_TEAPOTS]" in told


@pytest.mark.parametrize(
    "flags,env,line",
    [
        (["--teapots", "0"], {}, "CFM_TEAPOTS: expected `int` >= 1"),
        ([], {"CFM_TEAPOTS": "some"}, "CFM_TEAPOTS: expected `int`"),
        (["--teapots", "x"], {"CFM_TEAPOTS": "1"}, "CFM_TEAPOTS: expected `int`"),
        (
            [],
            {"CFM_TEAPOT": "1"},
            "CFM_TEAPOT: expected one of our settings, did you mean CFM_TEAPOTS?",
        ),
    ],
)
def test_a_bad_one_is_refused_by_its_name(
    copy: Path, flags: list[str], env: dict[str, str], line: str
) -> None:
    ran = tree.run(copy, "-m", "cfmessenger", "up", *flags, **env)
    assert (ran.returncode, ran.stderr) == (3, f"cfmessenger: {line}\n")
