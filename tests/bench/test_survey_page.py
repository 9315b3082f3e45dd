"""The page of a survey: what was measured, what follows, and what is missing."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.bench.meter import KINDS
from tests.bench.summary import Figures, Measured
from tests.bench.survey_page import PICTURES, costs_of, page, pictures
from tests.bench.sweep import SWEEPS, Point, Survey, Taken, merged, points


def measured(point: Point) -> Measured:
    """What a messenger would say that costs 100 µs a message and 2 µs a delivery of
    its gateway, 8 KiB a socket, 12 KiB a room, and 3 µs a watcher."""
    sizes = point.sizes
    if point.measure == "held":
        kib = {"gateway": 60_000 + 8.0 * sizes["sockets"], "valkey": 1.0}
        kib["actors"] = 80_000 + 12.0 * sizes["sockets"]
        accept = {"gateway": 1.5, "actors": 0.5}
        return _measured({}, kib=kib, cpu_ms_per_accept=accept)
    if point.measure == "changes":
        told = dict.fromkeys(KINDS, 5.0) | {"gateway": 10 + 3.0 * sizes["people"]}
        more = {"bytes_per_watcher": 120.0, "frames_per_watcher": 1.0}
        return _measured(more, cpu_us_per_change=told)
    if point.measure == "crowd":
        more = {"all_in_s": 5.1, "kib_per_person": 40.0, "frames_per_person": 60.0}
        return _measured(more, cpu_ms_per_person=dict.fromkeys(KINDS, 1.0))
    each = dict.fromkeys(KINDS, 50.0) | {"gateway": 100 + 2.0 * sizes["per_room"]}
    more = {"p50_ms": 1.0, "p99_ms": 2.0, "said": sizes["rate"]}
    more["valkey_bytes_per_message"] = 321.0 if sizes["rate"] == 1500 else 900.0
    return _measured(more, cpu_us_per_message=each)


def _measured(more: Figures, **parts: Figures) -> Measured:
    sums = {figure: sum(kinds.values()) for figure, kinds in parts.items()}
    return Measured(sums | more, parts)


def survey(*sweeps: str) -> Survey:
    chosen = [p for p in points() if not sweeps or p.sweep in sweeps]
    taken = [Taken(point, measured(point)) for point in chosen]
    return Survey("2026-01-01 00:00 UTC", {"CPU": "Abacus"}, taken)


def test_the_fit_finds_what_was_put_in() -> None:
    costs = costs_of(survey())
    assert costs is not None
    assert costs.cpu["gateway"].fixed == pytest.approx(100)
    assert costs.cpu["gateway"].slope == pytest.approx(2)
    assert (costs.socket_kib, costs.room_kib) == pytest.approx((8, 12))
    assert costs.presence["gateway"].slope == pytest.approx(3)
    assert costs.accept_ms == 1.5
    assert costs.valkey_bytes == 321, "of the run with most messages"


def test_every_sweep_is_on_the_page() -> None:
    text = page(survey())
    for words in (
        "Abacus",
        "gateways 4",
        "pool_size 2",
        "2 µs a delivery"[2:],
        "8.0 KiB of its gateway",
        "Presence.",
        "A crowd",
        "Growth",
        "ten changes of status a second",
        "first limit",
    ):
        assert words in text, words
    assert "To be known" not in text


@pytest.mark.parametrize("sweep", SWEEPS)
def test_one_sweep_alone_makes_a_page_without_plans(sweep: str) -> None:
    text = page(survey(sweep))
    assert "Planned" not in text


def test_a_point_without_figures_is_named_with_its_reason() -> None:
    found = survey("presence")
    found.taken[0] = Taken(found.taken[0].point, None, "2 sockets were dropped")
    text = page(found)
    assert "presence (people 50, rate 20): no figures: 2 sockets were dropped" in text


def test_growth_is_drawn_as_files_that_stand_for_themselves() -> None:
    found = pictures(survey())
    assert tuple(found) == PICTURES
    for svg in found.values():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        said = "".join(root.itertext())
        for kind in (*KINDS, "all"):
            assert kind in said
    assert "10,000 sockets in ten rooms" in found["growth-sockets.svg"]
    assert not pictures(survey("sockets"))


def test_surveys_of_several_runs_are_one_and_the_later_counts() -> None:
    first, second = survey("rates", "presence"), survey("rates")
    second.taken[0] = Taken(second.taken[0].point, None, "why")
    both = merged([first, second])
    assert len(both.taken) == len(first.taken)
    assert both.taken[0].reason == "why"
    with pytest.raises(ValueError, match="expected a survey"):
        merged([])


def test_no_two_points_are_the_same() -> None:
    keys = [point.key for point in points()]
    assert len(keys) == len(set(keys))
