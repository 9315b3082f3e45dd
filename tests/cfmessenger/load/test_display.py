"""A person at a terminal sees how a test goes and what came of it."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from cfmessenger.load import display, expect
from cfmessenger.load.board import Board, PhaseSecond
from cfmessenger.load.result import (
    Expectation,
    Health,
    Histogram,
    Oracle,
    Process,
    Progress,
    Result,
    Second,
    Server,
)
from tests.effort import tries

from . import samples


def shown(renderable: RenderableType, width: int = 88) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def board(seconds: int = 30) -> Board:
    state = Board(scenario="steady", url="http://127.0.0.1:8000", duration_s=60)
    sent = 0
    for second in samples.result(seconds=seconds).series:
        sent += second.sent
        histogram = Histogram()
        histogram.record(second.p50_us or 0)
        state.add(
            Progress(
                worker=0,
                second=second,
                counts={"sent": sent, "error.RATE_LIMITED": 3, "closed.1012": 2},
                histogram=histogram.encode(),
                done=(second.t + 1) / 60,
            )
        )
    return state


def row(text: str, label: str) -> str:
    [found] = [line for line in text.splitlines() if line.startswith(f"│ {label} ")]
    return " ".join(found.strip("│ ").split())


def test_a_running_test_tells_how_far_it_is_and_how_it_goes() -> None:
    text = shown(display.live(board()))
    assert "steady  http://127.0.0.1:8000" in text
    assert "0:30 left" in row(text, "measuring")
    assert row(text, "sent").startswith("sent 1,000 30,000 ")
    assert row(text, "codes") == "codes RATE_LIMITED 3 · closed 1012 2"
    assert row(text, "sockets") == "sockets 200"
    assert row(text, "oracle") == "oracle judges at the end"
    assert re.search(r"1 worker, lag \S+ µs, worst \S+ µs", row(text, "generator"))


def test_each_figure_has_its_trend() -> None:
    state = Board(scenario="steady", duration_s=4)
    for t, us in enumerate((0, 500, 1000)):
        second = Second(t=t, p50_us=us, p99_us=us, max_us=us)
        state.add(Progress(worker=0, second=second))
    assert row(shown(display.live(state)), "ack p99").endswith("▁▅█")


def test_before_the_first_report_there_is_nothing_to_tell() -> None:
    text = shown(display.live(Board(scenario="idle", url="http://h:1", workers=3)))
    assert "– left" not in text
    assert row(text, "connecting").endswith("–")
    assert row(text, "oracle") == "oracle judges at the end"
    assert "3 workers" in row(text, "generator")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_off_at_eighty_columns(width: int) -> None:
    text = shown(display.live(board()), width) + shown(
        display.summary(samples.result()), width
    )
    assert "…" not in text
    assert "max" in text
    assert max(map(len, text.splitlines())) <= min(width, 88)
    assert re.search(r"│ delivery .*(ms|µs) +│", text)


def test_a_log_has_one_line_a_second() -> None:
    second = samples.result().series[0]
    text = display.line(PhaseSecond("measuring", second))
    assert text.startswith("measuring   0:01  sent  1,000/s  acked  1,000/s")
    assert text.endswith("  sockets 200  errors 0")
    silent = display.line(PhaseSecond("warm-up", Second(t=4)))
    assert silent.startswith("warm-up     0:05  sent      0/s")
    assert silent.split()[8:14] == ["p50", "–", "p99", "–", "max", "–"]
    assert len(silent) == len(text) - 2  # the columns stand below each other


def test_without_a_terminal_each_second_is_written_once() -> None:
    console = Console(file=io.StringIO(), width=40)
    state = Board(scenario="steady", workers=2)
    with display.Show(state, console) as show:
        for t in range(3):
            for worker in (0, 1):
                state.add(Progress(worker=worker, second=Second(t=t, sent=5)))
                show.update()
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["measuring", f"0:0{t}", "sent", "10/s"] for t in (1, 2, 3)
    ]


def test_on_a_terminal_the_panel_is_drawn_again_and_taken_away() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=88, height=40)
    state = Board(scenario="steady")
    with display.Show(state, console) as show:
        state.add(Progress(worker=0, second=Second(t=0, sent=123)))
        show.update()
        assert "123" in file.getvalue()
        assert "measuring" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")  # the last line is erased
    assert "\x1b[?25h" in file.getvalue()  # the cursor is back


def test_the_summary_says_on_which_machines_the_workers_were() -> None:
    one = Result(scenario="idle", workers=2, worker_hosts={"m1": 2})
    two = Result(scenario="idle", workers=2, worker_hosts={"m3": 1, "m1": 1})
    assert " on " not in shown(display.summary(one))
    assert "2 local workers on m1, m3" in shown(display.summary(two))


def test_the_summary_has_every_figure_that_counts() -> None:
    result = samples.result()
    result.expectations = expect.judge(
        [expect.parse("p99<50ms"), expect.parse("rate>=5000/s")], result
    )
    text = shown(display.summary(result))
    assert row(text, "sent") == "sent 60,000 1,000"
    assert row(text, "acked") == "acked 59,940 999 99.9 %"
    ack = result.histograms["ack"]
    assert row(text, "ack").startswith(f"ack {ack.count:,} ")
    assert "52.0 µs a delivery" in text
    assert "memory 220 MiB" in text
    assert "✓ kept up" in row(text, "generator")
    assert "✓ nothing lost" in row(text, "oracle")
    gateway = row(text, "gateway")
    assert gateway == "gateway 4711 53.0 % 41.0 % 12.0 % 3.00 %"
    assert row(text, "valkey-server").endswith("30.0 % 10.0 % 20.0 % 0 %")
    assert "threads of 4711: uvloop 50%, log 3%" in text
    assert row(text, "p99<50ms").endswith("✓ holds")
    assert row(text, "rate>=5000/s") == "rate>=5000/s 999 /s ✗ missed"


def test_what_who_comes_is_told_is_summed_up() -> None:
    result = samples.result(counts={"connected": 10, "frames": 500, "bytes": 20_480})
    for name, us in (("entered", 4_000), ("allIn", 900_000)):
        histogram = Histogram()
        histogram.record(us)
        result.histograms[name] = histogram.data()
    came = row(shown(display.summary(result)), "came")
    assert came.startswith("came 1 in after 900 ms")
    assert came.endswith("50.0 frames, 2.00 KiB a socket")


def test_what_went_wrong_is_said_with_examples() -> None:
    result = samples.result(
        oracle=Oracle(
            checked_sockets=2, checked_rooms=1, lost=1, gaps=9,
            examples=[f"example {n}" for n in range(8)],
        ),
        health=Health(valid=False, reasons=["lag 75 ms is above 20 ms"]),
        server=None,
    )  # fmt: skip
    result.counts |= {"error.RATE_LIMITED": 12}
    text = shown(display.summary(result))
    assert "✗ lost 1, gaps 9" in row(text, "oracle")
    assert "example 0" in text
    assert "example 7" not in text
    assert "and 3 more" in text
    assert "✗ not valid: lag 75 ms is above 20 ms" in row(text, "generator")
    assert row(text, "errors") == "errors RATE_LIMITED 12"
    assert row(text, "server") == "server –"


def test_an_empty_result_can_be_summed_up() -> None:
    text = shown(display.summary(Result(scenario="idle")))
    assert row(text, "sent") == "sent 0 –"
    assert row(text, "oracle") == "oracle nothing checked"


@settings(max_examples=tries(25))
@given(st.text())
def test_no_text_from_outside_steers_the_terminal(text: str) -> None:
    result = Result(
        scenario=text,
        url=text,
        counts={f"error.{text}": 1, f"closed.{text}": 1},
        oracle=Oracle(checked_sockets=1, lost=1, examples=[text]),
        health=Health(valid=False, reasons=[text]),
        server=Server(processes=[Process(pid=1, name=text, threads={text: 1, "": 1})]),
        expectations=[Expectation(text=text)],
    )
    state = Board(scenario=text, url=text)
    state.add(Progress(worker=0, second=Second(t=0), counts=result.counts))
    for renderable in (display.summary(result), display.live(state)):
        file = io.StringIO()
        Console(file=file, width=88).print(renderable)
        assert all(c.isprintable() for c in file.getvalue().replace("\n", ""))


@given(st.lists(st.none() | st.integers(0, 10**9), max_size=40))
def test_a_sparkline_has_one_character_a_value(values: list[int | None]) -> None:
    line = display.sparkline(values)
    assert len(line) == len(values)
    for character, value in zip(line, values, strict=True):
        assert (character == " ") is (value is None)
    if any(values):
        assert "█" in line
