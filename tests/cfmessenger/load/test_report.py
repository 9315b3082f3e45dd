"""The report holds every figure, needs nothing from outside and runs nothing."""

import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfmessenger.load import expect, report
from cfmessenger.load.compare import compare
from cfmessenger.load.quantity import duration
from cfmessenger.load.result import Expectation, Health, Host, Oracle, Result
from tests.effort import tries

from . import samples


class Page(HTMLParser):
    """What a browser makes of it: elements in the order of their ends, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            self.elements.append((tag, dict(attrs), ""))
        else:
            self._open.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        name, attributes, texts = self._open.pop()
        assert name == tag, f"</{tag}> closes <{name}>"
        self.elements.append((name, attributes, "".join(texts)))
        if self._open:
            self._open[-1][2].extend(texts)

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][2].append(data)

    def all(self, name: str) -> list[tuple[dict[str, str | None], str]]:
        return [(a, text) for tag, a, text in self.elements if tag == name]

    def texts(self, name: str) -> list[str]:
        return [text for _, text in self.all(name)]


def full() -> Result:
    result = samples.result()
    result.counts |= {"error.RATE_LIMITED": 12, "closed.1012": 2, "wink": 4}
    result.expectations = expect.judge(
        [expect.parse("p99<50ms"), expect.parse("rate>=5000/s")], result
    )
    return result


def test_every_figure_of_the_result_is_told() -> None:
    result = full()
    page = Page(report.html(result))
    rows = page.texts("tr")
    ack = result.histograms["ack"]
    assert (
        f"ack6,000{duration(ack.min)}{duration(ack.mean)}{duration(ack.p50)}"
        f"{duration(ack.p90)}{duration(ack.p95)}{duration(ack.p99)}"
        f"{duration(ack.p999)}{duration(ack.max)}"
    ) in rows
    for row in (
        "sent60,0001,000 /s",
        "wink4–",
        "RATE_LIMITED12",
        "10122",
        "rate>=5000/s999 /s✗ missed",
        "Sockets checked200",
        "Lost0",
        "Greatest lag880 µs",
        "CPU a delivery52.0 µs",
        "Memory220 MiB",
        "Cores taken37.0 % of all",
        "cfmessenger gateway471153.0 %41.0 %12.0 %3.00 %uvloop 50%, log 3%",
        "rooms10",
        "Processors8 × Example 3 GHz",
        "valkey9.1.2",
    ):
        assert row in rows, row
    cards = page.texts("li")
    assert "✗ 1 of 2 holdexpectations" in cards
    assert "✓ Nothing lostoracle, 200 sockets, 10 rooms" in cards
    assert "✗ 12 errorsRATE_LIMITED" in cards
    assert "999 /sacknowledged" in cards
    assert len([row for row in rows if re.match(r"\d:\d\d1,000", row)]) == 60


def test_a_test_that_failed_says_so_first() -> None:
    result = samples.result(
        health=Health(valid=False, reasons=["lag 75 ms is above 20 ms"]),
        oracle=Oracle(checked_sockets=2, lost=1, examples=["seq 41 never came"]),
    )
    page = Page(report.html(result))
    [header] = page.texts("header")
    assert "Not valid. The generator did not keep up" in header
    assert "lag 75 ms is above 20 ms" in header
    assert "✗ 1 broken promise" in header
    assert "seq 41 never came" in page.texts("li")


def test_nothing_checked_is_not_called_nothing_lost() -> None:
    page = Page(report.html(samples.result(oracle=Oracle())))
    assert "Nothing checkedoracle" in page.texts("li")
    assert "Nothing lost" not in page.texts("header")[0]


def test_it_asks_for_nothing_and_runs_nothing() -> None:
    html = report.html(full(), compare(samples.result(), full()))
    page = Page(html)
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    for _, attributes, _ in page.elements:
        assert not {"src", "href", "xlink:href", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    [style] = page.texts("style")
    assert "url(" not in style
    assert "@import" not in style
    [policy] = [
        a["content"]
        for a, _ in page.all("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_it_can_be_read_without_seeing_it() -> None:
    page = Page(report.html(full(), compare(samples.result(), full())))
    assert page.all("html")[0][0]["lang"] == "en"
    assert all(a.get("scope") in ("col", "row") for a, _ in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(text for text in page.texts("caption"))
    ids = [a["id"] for _, a, _ in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for attributes, _ in page.all("svg"):
        assert attributes["role"] == "img"
        labelled = (attributes["aria-labelledby"] or "").split()
        assert len(labelled) == 2
        assert set(labelled) <= set(ids)
    for attributes, _ in page.all("div"):
        if attributes["class"] == "sheet":
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def test_it_follows_the_reader_into_the_dark() -> None:
    html = report.html(samples.result())
    [style] = Page(html).texts("style")
    used = set(re.findall(r"var\((--\w[\w-]*)\)", style))
    light, dark = style.split("prefers-color-scheme: dark", 1)
    declared = re.compile(r"(--\w[\w-]*):")
    assert used <= set(declared.findall(light))
    assert set(declared.findall(light)) == set(declared.findall(dark))


def test_a_comparison_is_told_and_drawn() -> None:
    before, after = samples.result(), samples.result(
        seed=2, slower=1.3, versions={"cfmessenger": "0.4.0", "valkey": "9.1.2"}
    )  # fmt: skip
    page = Page(report.html(after, compare(before, after)))
    rows = page.texts("tr")
    [row] = [row for row in rows if row.startswith("ack.p50")]
    assert row.startswith("ack.p50+31.0 %▼ worse2.03 ms2.66 ms+630 µs")
    assert "cfmessenger0.3.00.4.0" in rows
    assert "ack before" in page.texts("li")
    assert any(text.startswith("Worse: ack.p50") for text in page.texts("p"))
    assert "Comparison" not in Page(report.html(after)).texts("h2")


def test_an_empty_result_has_a_page_without_empty_parts() -> None:
    page = Page(report.html(Result(scenario="idle")))
    assert page.texts("h2") == ["Checks", "How it was made"]


@settings(max_examples=tries(30))
@given(st.text(min_size=1))
@example("<b>&amp;\"'<script>alert(1)</script>")
def test_no_text_from_outside_becomes_markup(text: str) -> None:
    def page(text: str) -> list[str]:
        result = samples.result(
            seconds=2,
            scenario=text,
            url=text,
            started_at=text,
            settings={text: text, "list": [text]},
            host=Host(name=text, cpus=1, model=text, kernel=text, python=text),
            versions={text: text},
            counts={"sent": 1, text: 1, f"error.{text}": 1, f"closed.{text}": 1},
            oracle=Oracle(checked_sockets=1, lost=1, examples=[text]),
            health=Health(valid=False, reasons=[text]),
            expectations=[Expectation(text=text)],
        )
        html = report.html(result, compare(samples.result(seconds=2), result))
        return re.findall(r"</?[a-z][a-z0-9]*", html)

    assert page(text) == page("x")


def test_it_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write(path, samples.result())
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>\n<html")
    assert text.endswith("</html>\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
