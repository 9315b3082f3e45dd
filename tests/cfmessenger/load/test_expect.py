"""An expectation means what it says, and a mistyped one says how it should be."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.expect import found, judge, parse
from cfmessenger.load.quantity import UNITS
from cfmessenger.load.result import Expectation, Histogram, Oracle, Result

from . import samples

SIGNS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
spaces = st.sampled_from(["", " ", "  "])


def one(text: str, result: Result) -> Expectation:
    [expectation] = judge([parse(text)], result)
    return expectation


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99<50ms", True),
        ("p99 < 1ms", False),
        ("ack.p99.9<=20ms", True),
        ("delivery.max<1s", True),
        ("connect.p50>1us", True),
        ("errors==0", True),
        ("errorRate<0.1%", True),
        ("loss==0", True),
        ("violations!=0", False),
        ("rate>=900/s", True),
        ("rate.sent>=1000", True),
        ("rate.sent>1000/s", False),
        ("cpuUsPerDelivery<4", False),
        ("memory<1GiB", True),
        ("lag<1ms", True),
        ("lag<500µs", False),
        ("cpuShare<80%", True),
        ("closed.1011==0", True),
        ("sent>=60000", True),
        ("p99>0", True),
    ],
)
def test_an_expectation_holds_when_it_is_so(text: str, holds: bool) -> None:
    assert one(text, samples.result()).holds is holds


@given(
    st.sampled_from(sorted(SIGNS)),
    st.integers(0, 3_000),
    st.sampled_from(sorted(UNITS["duration"])),
    st.integers(1, 2_000),
    spaces,
)
def test_each_comparison_is_the_one_of_arithmetic(
    sign: str, number: int, unit: str, us: int, space: str
) -> None:
    histogram = Histogram()
    histogram.record(us)
    result = Result(scenario="x", histograms={"ack": histogram.data()})
    expectation = one(f"{space}p50{space}{sign}{space}{number}{space}{unit}", result)
    limit = number * UNITS["duration"][unit]
    assert expectation.holds is SIGNS[sign](us, limit)
    assert expectation.value == us / UNITS["duration"][unit]


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_with_its_name(text: str) -> None:
    try:
        condition = parse(text)
    except ValueError as error:
        assert f"expectation {text!r}: " in str(error)
    else:
        assert condition.text == text.strip()


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=9),
    st.sampled_from(["<", "<=", "=", "=<", "<>", ">="]),
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,2})?(ms|s|%|/s|B|x)?\Z"),
)
def test_any_near_miss_is_read_or_refused(name: str, sign: str, limit: str) -> None:
    text = name + sign + limit
    try:
        parse(text)
    except ValueError as error:
        assert f"expectation {text!r}: " in str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected <figure><comparison><number><unit>, as in p99<50ms"),
        ("p99", "expected <figure>"),
        ("p99<", "expected <figure>"),
        ("p99<fast", "expected <figure>"),
        ("p99<-5ms", "expected <figure>"),
        ("p99<5ms and loss==0", "expected <figure>"),
        ("latency<5ms", "there is no figure 'latency'"),
        ("p99=5ms", "'=' is none of <  <=  >  >=  ==  !="),
        ("p99<50", "p99 needs one of us, ms, s, min"),
        ("p99<50sec", "p99 takes one of us, ms, s, min, not 'sec'"),
        ("loss==0%", "loss takes no unit, not '%'"),
        ("rate>5/min", "rate takes one of /s, not '/min'"),
        ("memory<5", "memory needs one of B, KiB, MiB, GiB"),
    ],
)
def test_a_mistake_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"expectation {text!r}: {says}")


def test_an_unknown_figure_is_told_which_there_are() -> None:
    with pytest.raises(ValueError) as caught:
        parse("p999<1s")
    for word in ("p99.9", "delivery.p99", "loss", "rate", "cpuUsPerDelivery", "lag"):
        assert word in str(caught.value)


def test_what_was_not_measured_meets_nothing() -> None:
    nothing = Result(scenario="x", oracle=Oracle(checked_sockets=0))
    for text in ("p99<50ms", "p99>0", "loss==0", "loss!=0", "rate>=0", "memory>=0"):
        assert one(text, nothing) == Expectation(text=text, value=None, holds=False)


def test_the_value_is_in_the_unit_that_was_asked_in() -> None:
    result = samples.result()
    p99 = result.histograms["ack"].p99
    assert one("p99<50ms", result).value == p99 / 1000
    assert found(one("p99<50ms", result)) == f"{p99 / 1000:.5g} ms"
    assert found(one("errorRate<=5%", result)) == "0 %"
    assert found(one("rate.sent>=1", result)) == "1000"
    assert found(one("rate.sent>=1/s", result)) == "1000 /s"
    assert found(Expectation(text="p99<50ms")) == "–"
    assert found(Expectation(text="mood<5", value=2.0)) == "2"


def test_a_near_miss_is_not_shown_as_the_limit() -> None:
    histogram = Histogram()
    histogram.record(20_010)
    result = Result(scenario="x", histograms={"ack": histogram.data()})
    expectation = one("p50<=20ms", result)
    assert not expectation.holds
    assert found(expectation) != "20 ms"
