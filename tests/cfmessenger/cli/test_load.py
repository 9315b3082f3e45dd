"""`cfmessenger load`: what it prints and writes, and with which code it ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cfmessenger.cli.load import exit_code, load
from cfmessenger.load.plan import SCENARIOS
from cfmessenger.load.result import Expectation, Health, Oracle, Result, read
from tests.cfmessenger.load.target import command, gateway
from tests.effort import long_only

QUICK = ("--duration", "0.5", "--warmup", "0", "--max-lag", "60000")


def result(**parts: Any) -> Result:
    return Result(scenario="fanout", **parts)


def test_a_good_run_is_0_and_each_fault_has_its_code_the_worst_first() -> None:
    bad: dict[str, Any] = {
        "oracle": Oracle(lost=1),
        "health": Health(valid=False),
        "expectations": [Expectation(text="p99<1us", holds=False)],
    }
    assert exit_code(result()) == 0
    for code, name in ((3, "expectations"), (4, "health"), (1, "oracle")):
        assert exit_code(result(**{name: bad[name]})) == code
    del bad["oracle"]
    assert exit_code(result(**bad)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fanout", "--url", "http://192.0.2.1:8000"), "--allow-remote"),
        (("fanout", "--sockets", "0"), "--sockets"),
        (("fanout", "--expect", "p99<50parsecs"), "parsecs"),
        (("fanout", "--procs", "("), "--procs"),
        (("rooms", "--rooms", "9", "--sockets", "3"), "--rooms"),
        (("nonsense",), "nonsense"),
        (("wake", "--rate", "3"), "--rate"),
        (("compare", "/nonexistent/a", "/nonexistent/b"), "/nonexistent/a"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_what(
    arguments: tuple[str, ...], message: str
) -> None:
    ran = CliRunner().invoke(load, arguments)
    assert ran.exit_code == 2
    assert message in ran.stderr


def test_actors_need_something_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFM_VALKEY_URL", raising=False)
    monkeypatch.setenv("CFM_DATA_DIR", str(tmp_path))
    ran = CliRunner().invoke(load, ["fanout", "--target", "actors"])
    assert ran.exit_code == 2
    assert f"No messenger runs on {tmp_path}; " in ran.stderr


def test_nobody_there_is_5() -> None:
    ran = CliRunner().invoke(load, ["idle", "--url", "http://127.0.0.1:1"])
    assert ran.exit_code == 5
    assert "no answer from http://127.0.0.1:1" in ran.stderr


def test_help_names_the_codes_and_the_settings_to_lift() -> None:
    shown = CliRunner().invoke(load, ["--help"]).stdout
    for text in ("CFM_CHAT_RATE=0", "CFM_OPEN_ROOMS=1", *SCENARIOS, "compare"):
        assert text in shown
    for code in range(6):
        assert f"\n    {code}  " in shown


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_explains_its_flags(scenario: str) -> None:
    ran = CliRunner().invoke(load, [scenario, "--help"])
    assert ran.exit_code == 0
    assert "--url" in ran.stdout and "--expect" in ran.stdout


async def test_a_run_prints_writes_and_compares(
    valkey_url: str, tmp_path: Path
) -> None:
    first, page = tmp_path / "a.json", tmp_path / "a.html"
    async with gateway(valkey_url, chat_rate="3/10") as url:
        ran = await command(
            *("fanout", "--url", url, "--sockets", "2", "--rate", "40", *QUICK),
            *("--json", str(first), "--html", str(page), "--expect", "loss==0"),
            *("--procs", "no such process"),
        )
    assert ran.code == 0, ran.err
    assert "fanout" in ran.out
    assert "CFM_CHAT_RATE=0" in ran.err
    found = read(first)
    assert found.url == url
    assert found.counts["error.RATE_LIMITED"] > 0
    assert [each.holds for each in found.expectations] == [True]
    assert found.settings["sockets"] == 2
    assert found.server is not None and found.server.cpu_s == 0.0
    assert page.read_text().startswith("<!")
    compared = await command("compare", str(first), str(first))
    assert compared.code == 0, compared.err


@long_only
async def test_what_neighbours_of_a_hot_room_notice_is_told(
    valkey_url: str, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    async with gateway(valkey_url) as url:
        ran = await command(
            *("hot", "--url", url, "--rooms", "5", "--hot-sockets", "3"),
            *("--hot-rate", "20", "--warmup", "0", "--duration", "9"),
            *("--max-lag", "60000", "--json", str(found), "--calm-url", url),
            *("--expect", "calmRatio.p99<1000", "--expect", "calmBefore.p50<60s"),
        )
    assert ran.code == 0, ran.err
    assert "calmBefore" in ran.out and "calmBeside" in ran.out
    assert re.search(r"calm rooms +p50 × [\d.]+, p99 × [\d.]+ beside", ran.out)
    assert [each.holds for each in read(found).expectations] == [True, True]


async def test_conversations_that_begin_at_once_are_told(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        ran = await command(
            *("open", "--url", url, "--rooms", "6", "--within", "0.2"),
            *("--max-lag", "60000", "--expect", "first.max<60s"),
        )
    assert ran.code == 0, ran.err
    assert re.search(r"first +6 ", ran.out)
    assert re.search(r"opened +6, refused 0", ran.out)


async def test_an_expectation_that_is_missed_is_3(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        ran = await command(
            *("fanout", "--url", url, "--sockets", "2", "--rate", "40", *QUICK),
            *("--expect", "p99<1us"),
        )
    assert ran.code == 3, ran.err
    assert "p99<1us" in ran.out


async def test_a_generator_that_cannot_keep_up_is_4(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        ran = await command(
            # From many: one socket that sends so much is a flood, and cut.
            *("rooms", "--url", url, "--rooms", "50", "--sockets", "100"),
            *("--rate", "60000", "--duration", "0.2", "--warmup", "0"),
            *("--max-lag", "1"),
        )
    assert ran.code == 4, ran.err
    assert "late" in ran.out
