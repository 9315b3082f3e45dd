"""Tables: nothing is cut on a narrow terminal, and a pipe gets whole lines."""

import re

import pytest

from cfmessenger.cli.tables import age, percent, show

NAMES = ("bot_conspiracy", "The Truth Is In Here", "until 13:00", 12, "3 busy, 1 off")
ROWS = [NAMES, ("bot_a", "A", "from 9:00", 7, "0")]
COLUMNS = ("bot", "name", "duty", "asked", "refused")


@pytest.mark.parametrize("width", [56, 60, 80])
def test_nothing_is_cut_on_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    show(COLUMNS, ROWS, whole=("bot", "duty"))
    out = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(len(line) <= width for line in out.splitlines())
    assert "bot_conspiracy" in out and "until 13:00" in out and "…" not in out
    letters = re.sub(r"[\s]", "", out)
    for cell in ("Truth", "Here", "busy,"):
        assert cell in letters


def test_a_pipe_gets_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    show(COLUMNS, ROWS)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    assert "The Truth Is In Here  until 13:00" in first
    assert second.split()[-2:] == ["7", "0"] and "\x1b" not in head


def test_markup_of_others_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(("name",), [("[red]:smile:[/red]",)])
    assert "[red]:smile:[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (-5000, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (7_199_000, "1 h"),
        (200_000_000, "2 d"),
    ],
)
def test_ages_have_one_unit(ms: int, said: str) -> None:
    assert age(ms) == said


def test_shares_are_percents() -> None:
    assert percent(0.12345) == "12.3 %"
