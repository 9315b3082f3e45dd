"""What a search found, as text and as a page."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from cfmessenger.load.capacity import Capacity, Limit, Step
from cfmessenger.load.capacity_report import conclusion, html, line, summary, write
from cfmessenger.load.result import Process

EVIL = "<script>alert(1)</script>\x1b[31m"


def found() -> Capacity:
    gateway = Process(
        pid=11,
        name="cfmessenger gateway",
        user=0.7,
        system=0.28,
        threads={"main": 0.95, "log": 0.03},
    )
    valkey = Process(pid=12, name="valkey-server", user=0.2, system=0.2, waited=0.1)
    steps = [
        Step(value=100.0, p50_us=900, p99_us=2_000, machine=0.2, processes=[valkey]),
        Step(
            value=200.0,
            p50_us=9_000,
            p99_us=80_000,
            machine=0.8,
            generator=0.3,
            processes=[gateway, valkey],
            broke=["ack p99 is 80 ms, above 50"],
        ),
    ]
    text = "cfmessenger gateway (11), 98% of a core: it is at a full core"
    limit = Limit(
        kind="process", text=text, process=gateway, functions={"encode (x.py)": 0.4}
    )
    return Capacity(
        scenario="rooms",
        axis="rate",
        url="http://127.0.0.1:8000",
        steps=steps,
        held=100.0,
        broke=200.0,
        limit=limit,
    )


def text(capacity: Capacity) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary(capacity))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_says_at_which_rate_which_process_and_what_it_did() -> None:
    said = text(found())
    assert "100 messages a second held, 200 did not: ack p99 is 80 ms" in said
    assert "The limit: cfmessenger gateway (11), 98% of a core" in said
    assert "threads of 11: main 95%, log 3%" in said and "encode (x.py)" in said
    assert "gateway 98%" in said
    page = html(found())
    for words in ("100 held", "200 did not", "encode (x.py)", "main 95%", "<svg"):
        assert words in page


@pytest.mark.parametrize(
    ("ended", "says"),
    [("top", "was to be tried held"), ("time", "time was over"), ("precise", "held.")],
)
def test_why_it_ended_is_told(ended: str, says: str) -> None:
    capacity = found()
    capacity.ended, capacity.broke = ended, None  # type: ignore[assignment]
    assert says in conclusion(capacity)


def test_a_search_in_which_nothing_held_says_so() -> None:
    capacity = Capacity(scenario="crowd", axis="sockets", ended="nothing held")
    assert conclusion(capacity).startswith("Nothing held.")
    assert "Nothing held" in html(capacity) and text(capacity)


def test_text_from_outside_steers_neither_terminal_nor_page(tmp_path: Path) -> None:
    capacity = found()
    capacity.url = EVIL
    capacity.steps[1].broke = [EVIL]
    assert capacity.limit is not None
    capacity.limit.functions = {EVIL: 1.0}
    capacity.violations = [EVIL]
    assert "\x1b" not in text(capacity) and "\x1b" not in line(capacity.steps[1])
    path = tmp_path / "page.html"
    write(path, capacity)
    page = path.read_text()
    assert "<script" not in page

    class Balance(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.open == []
