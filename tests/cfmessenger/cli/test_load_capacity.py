"""`cfmessenger load capacity`: what it prints and writes, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from cfmessenger.cli.load import load
from cfmessenger.cli.load_capacity import exit_code
from cfmessenger.load.capacity import AXES, Capacity, Limit
from tests.cfmessenger.load.target import command, gateway


def found(**parts: Any) -> Capacity:
    return Capacity(scenario="rooms", axis="rate", **parts)


def test_each_outcome_has_its_code() -> None:
    assert exit_code(found(held=10.0)) == 0
    assert exit_code(found(held=10.0, violations=["lost"])) == 1
    assert exit_code(found()) == 3
    assert exit_code(found(limit=Limit(kind="generator", text=""))) == 4


@pytest.mark.parametrize("scenario", AXES)
def test_every_scenario_explains_its_flags_but_not_what_is_raised(
    scenario: str,
) -> None:
    ran = CliRunner().invoke(load, ["capacity", scenario, "--help"])
    assert ran.exit_code == 0
    assert "--max-p99" in ran.stdout and "--time-limit" in ran.stdout
    assert f"--{AXES[scenario]} " not in ran.stdout  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rooms", "--rate", "100"), "--rate"),
        (("rooms", "--from", "100", "--to", "50"), "--from"),
        (("idle", "--url", "http://192.0.2.1:8000"), "--allow-remote"),
        (("hot",), "hot"),
        (("rooms", "--procs", "("), "--procs"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what(
    arguments: tuple[str, ...], message: str
) -> None:
    ran = CliRunner().invoke(load, ["capacity", *arguments])
    assert ran.exit_code == 2
    assert message in ran.stderr


def test_nobody_there_is_5() -> None:
    ran = CliRunner().invoke(load, ["capacity", "idle", "--url", "http://127.0.0.1:1"])
    assert ran.exit_code == 5


async def test_a_search_prints_and_writes(valkey_url: str, tmp_path: Path) -> None:
    result, page = tmp_path / "found.json", tmp_path / "found.html"
    async with gateway(valkey_url) as url:
        ran = await command(
            *("capacity", "gather", "--url", url, "--from", "2", "--to", "4"),
            *("--within", "0.1", "--max-p99", "60000", "--max-lag", "60000"),
            *("--json", str(result), "--html", str(page)),
        )
    assert ran.code == 0, ran.err
    assert "4 sockets held." in ran.out
    assert ran.err.count("held") == 2
    told = msgspec.json.decode(result.read_bytes(), type=Capacity)
    assert [step.value for step in told.steps] == [2, 4]
    assert page.read_text().startswith("<!")
