"""No text becomes markup by mistake."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.markup import Markup, joined, tag

# What XML can hold at all, less what its parser is bound to normalise.
texts = st.text(
    st.characters(
        blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"
    )
)


@given(texts, texts)
def test_text_and_attributes_come_back_as_they_were(text: str, value: str) -> None:
    element = ET.fromstring(tag("p", text, title=value))
    assert (element.text or "") == text
    assert element.attrib == {"title": value}


def test_elements_nest_and_text_between_them_is_escaped() -> None:
    item = tag("li", "a < b", class_="x")
    assert tag("ul", item, "&", None) == '<ul><li class="x">a &lt; b</li>&amp;</ul>'
    assert joined(Markup("<b>"), "<b>", 3) == "<b>&lt;b&gt;3"


def test_attributes_are_named_as_python_allows() -> None:
    made = tag("div", aria_label='"', tabindex=0, hidden=True, open=False, id=None)
    assert made == '<div aria-label="&quot;" tabindex="0" hidden=""></div>'


def test_void_elements_have_no_end() -> None:
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
