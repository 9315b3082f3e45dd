"""Entity tags: which header names which revision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.data.etag import etag, matches


@pytest.mark.parametrize(
    "header", ["*", " * ", '"7"', '"1", "7"', '"7","8"', ' , "7" ,,', '"\xe9", "7"']
)
def test_it_names_the_revision(header: str) -> None:
    assert matches(header, 7) and matches(header, 7, weak=True)


@pytest.mark.parametrize(
    "header",
    ['"8"', "7", '"7', "'7'", '"7" "8"', '"*"', "", ",", '"7", x', '"07"', 'w/"7"'],
)
def test_it_does_not(header: str) -> None:
    assert not matches(header, 7) and not matches(header, 7, weak=True)


def test_a_weak_tag_never_matches_strongly() -> None:
    assert not matches('W/"7"', 7)
    assert matches('W/"7"', 7, weak=True)
    assert matches('W/"7", "7"', 7)


@given(st.text(), st.integers(1, 9))
def test_any_header_can_be_looked_at(header: str, revision: int) -> None:
    matches(header, revision)
    assert matches(etag(revision), revision)
