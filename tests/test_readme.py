"""What the README says of settings, commands and files is so."""

import re
from pathlib import Path

import pytest

from cfmessenger.cli import _COMMANDS
from cfmessenger.cli.settings_help import default_of, table
from cfmessenger.settings import ABOUT, Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HIDDEN = {"crash_at"}


def test_every_setting_has_its_line() -> None:
    assert tuple(ABOUT) == Settings.__struct_fields__
    assert {field for field, about in ABOUT.items() if not about.help} == HIDDEN


def test_the_table_of_settings_is_the_generated_one() -> None:
    """`python -c 'from cfmessenger.cli.settings_help import table; print(table())'`"""
    _, _, rest = README.partition("<!-- settings:begin -->\n")
    found, _, _ = rest.partition("\n<!-- settings:end -->")
    assert found == table()


def test_every_command_that_is_named_exists() -> None:
    named = set(re.findall(r"\.venv/bin/cfmessenger ([a-z]+)", README))
    assert named
    assert named <= set(_COMMANDS)


def test_every_target_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", README))
    assert named
    assert named <= set(targets)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if "://" not in link]
    assert local
    assert not [link for link in local if not (ROOT / link).exists()]


def test_a_setting_that_is_none_is_a_key_that_is_missing() -> None:
    """A StopIteration would end the loop of whoever asks in silence."""
    with pytest.raises(KeyError):
        default_of("nothing")
