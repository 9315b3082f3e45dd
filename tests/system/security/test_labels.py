"""Every label of the security requirements has a test that exists, or a reason.

Read from the sources, so that it holds whatever part of the tests is run.
"""

import re

import pytest

from tests.system.security.labels import LABELS
from tests.test_traps import TESTS, defined_in

SERIES = {
    "S": 8,
    "T": 5,
    "A": 4,
    "L": 5,
    "W": 5,
    "G": 4,
    "V": 6,
    "R": 8,
    "K": 3,
    "C": 5,
    "E": 4,
}
"""How many labels each series has; bad input is counted by the tables it comes in."""


def test_every_label_is_there() -> None:
    expected = {
        f"{series}-{n + 1}" for series, count in SERIES.items() for n in range(count)
    }
    expected |= {f"D6{letter}" for letter in "abcdefg"}
    assert {label for label in LABELS if label[0] not in "HJFP"} == expected


@pytest.mark.parametrize("label", LABELS)
def test_what_proves_it_exists(label: str) -> None:
    row = LABELS[label]
    assert row.proofs or row.because
    for proof in row.proofs:
        path, _, name = proof.partition("::")
        assert (TESTS / path).is_file(), proof
        assert name in defined_in(TESTS / path), proof


def test_a_test_that_is_named_by_its_label_is_listed_under_it() -> None:
    for path in sorted((TESTS / "system" / "security").glob("test_*.py")):
        for name in defined_in(path):
            for series, number in re.findall(r"(?<=_)([a-z])(\d)(?=_)", name):
                label = f"{series.upper()}-{number}"
                proof = f"system/security/{path.name}::{name}"
                assert proof in LABELS[label].proofs, (label, proof)
