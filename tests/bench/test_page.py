"""Generated blocks and tables of the pages."""

import msgspec
import pytest

from tests.bench import page
from tests.bench.page import BEGIN, END, cell, number, replaced, table
from tests.bench.plan import FIGURES, FULL, ROWS
from tests.bench.summary import Entrant, Failure, Result, Sample, Spread


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"by hand\n{BEGIN}\nold\n{END}\nalso by hand\n"
    once = replaced(text, "new\n")
    assert once == f"by hand\n{BEGIN}\nnew\n{END}\nalso by hand\n"
    assert replaced(once, "new") == once


def test_markers_are_added_to_a_page_that_has_none() -> None:
    assert replaced("by hand\n", "new") == f"by hand\n\n{BEGIN}\nnew\n{END}\n"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_page_with_broken_markers_is_not_touched(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        replaced(text, "new")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.1234, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (1234567.8, "1,234,568")],
)
def test_a_number_has_three_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_cell_shows_the_spread_only_when_there_is_one() -> None:
    assert cell(Spread(2.0, 1.0, 3.0)) == "2.00 (1.00–3.00)"
    assert cell(Spread(2.0, 1.0, 3.0), sides=False) == "2.00"
    assert cell(Spread(2.0, 2.0, 2.0)) == "2.00"
    assert cell(None) == "–"


def test_every_line_of_a_table_is_as_wide_as_the_widest() -> None:
    assert table(["", "b"], [["long name", "1"], ["x", "1,000"]]).splitlines() == [
        "|           |     b |",
        "| --------- | ----: |",
        "| long name |     1 |",
        "| x         | 1,000 |",
    ]


def result() -> Result:
    samples = [
        Sample("fanout", key, n, {"cpu_us_per_delivery": value * n})
        for key, value in (("auto", 4.0), ("workerd", 40.0), ("node-ws", 16.0))
        for n in (1, 2)
    ]
    return Result(
        started_at="2026-01-01 00:00 UTC",
        machine={"CPU": "Abacus", "cores": "2", "memory": "1 GiB"},
        versions={"Python": "3.11"},
        plan={"fanout": FULL["fanout"] | {"sockets": 77}},
        repetitions=2,
        entrants=[
            Entrant("auto", "Ours", "durable"),
            Entrant("workerd", "A Durable Object", "nothing stored"),
            Entrant("node-ws", "Node", "nothing stored"),
            Entrant("channels", "Channels", "nothing stored"),
        ],
        samples=samples,
        failures=[
            Failure("fanout", "channels", n, f"seq was broken {n} times")
            for n in (1, 2)
        ],
    )


def test_the_page_names_machine_sizes_figures_ratios_and_who_has_none() -> None:
    text = page.page(result())
    assert "* CPU: Abacus" in text and "* Python: 3.11" in text
    assert "One room of 77 sockets" in text
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    assert ["", "Ours", "6.00 (4.00–8.00)", "–", ""] in lines
    assert ["", "fanout: CPU a delivery (µs)", "0.10", "0.25", ""] in lines
    assert "* Channels, fanout: seq was broken 1 times (2 of 2)" in text


def test_a_peer_more_is_one_contestant_and_has_its_column_everywhere() -> None:
    found = result()
    found.entrants.append(Entrant("teapot", "A teapot", "tea"))
    found.samples.append(Sample("fanout", "teapot", 1, {"cpu_us_per_delivery": 8.0}))
    assert "auto ÷ teapot" in page.ratio_table(found)
    assert "| A teapot" in page.row_table(found, "fanout")
    assert "A teapot" in page.page(found)


def test_where_the_time_went_is_told_for_who_has_several_kinds() -> None:
    found = result()
    ours = {"gateway": 2.0, "actors": 1.0, "valkey": 0.5, "rest": 0.5}
    for contestant, parts in (("auto", ours), ("node-ws", {"server": 16.0})):
        sample = Sample(
            "fanout",
            contestant,
            3,
            {"cpu_us_per_delivery": 4.0},
            {"cpu_us_per_delivery": parts},
        )
        found.samples.append(sample)
    text = page.parts_table(found, "fanout")
    row = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert row[1:-1] == ["Ours: CPU a delivery (µs)", "2.00", "1.00", "0.50", "0.50"]
    assert "Node" not in text
    assert text in page.page(found)


def test_what_is_to_be_known_of_a_figure_stands_under_it() -> None:
    found = result()
    found.samples.append(
        Sample("fanout", "auto", 3, {}, notes=["not steady after 30 s of load"])
    )
    assert "* Ours, fanout: not steady after 30 s of load (1 of 2)" in page.page(found)


def test_a_result_of_before_there_were_parts_can_be_read() -> None:
    old = msgspec.json.encode(result()).replace(b',"parts":{},"notes":[]', b"")
    assert b"parts" not in old
    assert page.page(msgspec.json.decode(old, type=Result)) == page.page(result())


def test_the_readme_gets_medians_ratios_and_a_link() -> None:
    text = page.excerpt(result())
    row = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert row[2:-1] == ["6.00", "60.0", "24.0", "–", "0.10", "0.25"]
    assert "(BENCHMARKS.md)" in text and "Abacus" in text


def test_a_result_without_ours_leaves_a_readme_that_says_so() -> None:
    empty = Result("", {}, {}, {}, 1, [], [], [])
    assert page.excerpt(empty) == "No figures yet: `make bench`."
    assert page.ratio_table(empty) == "" and page.failures(empty) == ""


def test_every_row_is_planned_has_columns_and_text_for_its_sizes() -> None:
    assert {row.key for row in ROWS} == set(FULL) == {each.row for each in FIGURES}
    for row in ROWS:
        assert "{" not in row.text.format(**FULL[row.key])
