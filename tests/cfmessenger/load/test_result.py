"""A result survives its file, and several workers' shares become one truth."""

import json
from pathlib import Path

import msgspec
import pytest

from cfmessenger.load.result import (
    MAX_EXAMPLES,
    Expectation,
    Health,
    Histogram,
    Oracle,
    Progress,
    Result,
    Second,
    Share,
    decode,
    merge,
    merge_seconds,
    read,
    write,
)

from . import samples


def encoded(*values: int) -> str:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram.encode()


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    whole = samples.result(
        expectations=[Expectation(text="p99<50ms", value=6.5, holds=True)]
    )
    write(path, whole)
    assert read(path) == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_the_file_speaks_camel_case_and_names_its_version(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, samples.result())
    document = json.loads(path.read_text())
    assert document["version"] == 1
    assert document["startedAt"] == "2026-03-01T12:00:00Z"
    assert document["server"]["cpuUsPerDelivery"] == 52.0
    assert document["series"][0]["p99Us"] > 0
    assert document["histograms"]["ack"]["unit"] == "us"


def test_a_version_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text('{"version": 2, "scenario": {"name": "other"}}')
    with pytest.raises(ValueError, match=r"new\.json: a result of version 2; only 1"):
        read(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "scenario": 5}', "\xff"]
)
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the result of a load test"):
        decode(text.encode("latin-1"))


def test_fields_added_later_within_a_version_are_passed_over() -> None:
    assert decode('{"version": 1, "scenario": "idle", "mood": 3}').scenario == "idle"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, samples.result())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write(path, samples.result(settings={"odd": object()}))
    assert path.read_bytes() == before


def test_whoever_reads_while_it_is_written_reads_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write(path, samples.result())
    before = path.read_bytes()
    with path.open("rb") as reader:
        write(path, samples.result(seed=2))
        assert reader.read() == before
    assert path.read_bytes() != before


def test_shares_add_up_whatever_their_order() -> None:
    shares = [
        Share(
            worker=1,
            counts={"sent": 4, "error.RATE_LIMITED": 1},
            histograms={"ack": encoded(10, 20), "wake": encoded(7)},
            series=[Second(t=0, sent=1), Second(t=1, sent=3, sockets=2)],
            oracle=Oracle(checked_sockets=3, checked_rooms=1, lost=1, gaps=2),
            health=Health(max_lag_us=9, cpu_share=0.2, loop_lag_us=30),
        ),
        Share(
            worker=0,
            counts={"sent": 6},
            histograms={"delivery": encoded(1), "x": encoded(1), "ack": encoded(30)},
            series=[Second(t=1, sent=6, sockets=5, errors=1)],
            oracle=Oracle(checked_sockets=1, checked_rooms=1, reordered=4),
            health=Health(
                valid=False, reasons=["too late"], max_lag_us=50, cpu_share=0.9
            ),
        ),
    ]
    merged = merge(shares)
    assert merged == merge(reversed(shares))
    assert merged.counts == {"error.RATE_LIMITED": 1, "sent": 10}
    assert list(merged.histograms) == ["ack", "delivery", "wake", "x"]
    ack = merged.histograms["ack"]
    assert (ack.count, ack.min, ack.max) == (3, 10, 30)
    assert [(s.t, s.sent, s.sockets, s.errors) for s in merged.series] == [
        (0, 1, 0, 0),
        (1, 9, 7, 1),
    ]
    assert merged.oracle.checked_sockets == 4
    assert merged.oracle.violations == 7
    assert merged.health == Health(
        valid=False,
        reasons=["worker 0: too late"],
        max_lag_us=50,
        cpu_share=0.9,
        loop_lag_us=30,
    )


def test_of_one_worker_no_reason_is_told_whose_it_is() -> None:
    share = Share(worker=0, health=Health(valid=False, reasons=["too late"]))
    assert merge([share]).health.reasons == ["too late"]


def test_no_shares_are_an_empty_test() -> None:
    merged = merge([])
    assert merged.counts == {}
    assert merged.series == []
    assert merged.health.valid


def test_examples_come_from_all_workers_and_are_bounded() -> None:
    shares = [
        Share(worker=w, oracle=Oracle(examples=[f"{w}.{i}" for i in range(20)]))
        for w in range(3)
    ]
    examples = merge(shares).oracle.examples
    assert len(examples) == MAX_EXAMPLES
    assert examples[:4] == ["0.0", "1.0", "2.0", "0.1"]


def test_a_seconds_percentiles_are_those_of_all_its_acks() -> None:
    slow = Second(t=3, p50_us=1000, p99_us=1000, max_us=1000)
    fast = Second(t=3, p50_us=10, p99_us=10, max_us=10)
    parts = [(slow, encoded(1000)), (fast, encoded(*[10] * 199))]
    second = merge_seconds(parts)
    assert (second.t, second.p50_us, second.p99_us, second.max_us) == (3, 10, 10, 1000)
    series = merge(
        [
            Share(worker=0, series=[slow], acks={3: encoded(1000)}),
            Share(worker=1, series=[fast], acks={3: encoded(*[10] * 199)}),
        ]
    ).series
    assert series == [second]


def test_without_all_acks_a_seconds_percentiles_are_the_worst_workers() -> None:
    slow = Second(t=0, p50_us=900, p99_us=950, max_us=1000, lag_us=5)
    fast = Second(t=0, p50_us=10, p99_us=20, max_us=30, lag_us=7)
    silent = Second(t=0)
    second = merge_seconds([(slow, None), (fast, encoded(10)), (silent, None)])
    assert (second.p50_us, second.p99_us, second.max_us) == (900, 950, 1000)
    assert second.lag_us == 7
    assert merge_seconds([(silent, None)]).p50_us is None


def test_shares_and_progress_survive_the_way_home() -> None:
    share = Share(worker=2, acks={0: encoded(5)}, series=[Second(t=0)])
    progress = Progress(worker=1, second=Second(t=4), phase="draining", done=0.5)
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(share), type=Share) == share
        assert codec.decode(codec.encode(progress), type=Progress) == progress


def test_defaults_are_not_shared_between_results() -> None:
    Result(scenario="a").oracle.lost = 5
    Result(scenario="a").health.reasons.append("late")
    assert Result(scenario="b").oracle.lost == 0
    assert Result(scenario="b").health.reasons == []
