"""A report's tables say what each row and column is, to everybody."""

import xml.etree.ElementTree as ET

from cfmessenger.load.markup import tag
from cfmessenger.load.sheet import facts, sheet


def cells(row: ET.Element) -> list[tuple[str, str | None, str | None]]:
    return [(cell.tag, cell.get("scope"), cell.text) for cell in row]


def test_a_sheet_names_its_columns_and_its_rows() -> None:
    whole = tag("td", "✓", class_="good")
    made = ET.fromstring(sheet("Checks", ("Name", "Holds"), [("a<b", whole)]))
    [head, row] = made.iter("tr")
    assert cells(head) == [("th", "col", "Name"), ("th", "col", "Holds")]
    assert cells(row) == [("th", "row", "a<b"), ("td", None, "✓")]
    assert row[1].get("class") == "good"
    assert made.findtext(".//caption") == "Checks"
    assert (made.get("aria-label"), made.get("tabindex")) == ("Checks", "0")


def test_a_quiet_caption_is_still_there() -> None:
    [caption] = ET.fromstring(sheet("Checks", ("",), [], quiet=True)).iter("caption")
    assert (caption.text, caption.get("class")) == ("Checks", "quiet")


def test_facts_are_rows_with_more_below() -> None:
    made = ET.fromstring(facts("Host", {"Name": "a&b"}, tag("p", "more")))
    [row] = made.iter("tr")
    assert cells(row) == [("th", "row", "Name"), ("td", None, "a&b")]
    assert [child.tag for child in made] == ["table", "p"]
