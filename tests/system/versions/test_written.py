"""What the release before wrote is read by this one as it was meant, byte for byte.

A difference means that it needs an upgrade path, or that two releases cannot run beside
each other. For another release before: `written.py` says how its bytes are made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from cfmessenger.chat import effects
from cfmessenger.link import messages as link
from cfmessenger.wire import events
from tests.system.versions.before import ROOT
from tests.system.versions.written import INPUTS, ITEMS, written

BEFORE = {
    name: bytes.fromhex(data)
    for name, data in json.loads(
        Path(__file__).with_name("written_before.json").read_text()
    ).items()
}
HERE = written()


@pytest.mark.parametrize("name", BEFORE)
def test_what_the_release_before_wrote_means_the_same_here(name: str) -> None:
    each = HERE[name]
    assert each.read(BEFORE[name]) == each.read(each.data) == each.value


def test_nothing_that_it_wrote_was_left_out() -> None:
    assert BEFORE.keys() <= HERE.keys()


def test_there_is_one_of_each_kind() -> None:
    """One more belongs here before it is said to anybody."""
    assert set(map(type, INPUTS)) == set(get_args(link.Input))
    assert set(map(type, ITEMS)) == set(get_args(link.Item))
    of = {type(each.value) for each in HERE.values()}
    known = of | {link.Hello, link.Welcome, link.Proof, link.Refused}  # the greeting
    assert set(get_args(link.ToActor) + get_args(link.ToGateway)) <= known
    assert set(get_args(effects.Notification)) <= of
    assert set(get_args(events.Event)) <= of


def test_each_is_told_of_in_the_table() -> None:
    said = (ROOT / "docs" / "versions.md").read_text()
    kinds = {name.split()[0] for name in HERE}
    assert {kind for kind in kinds if f"**{kind}**" not in said} == set()
