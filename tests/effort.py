"""How much is tried: what one waits for, or everything.

`make test` is for whoever waits for it: a fifth of what chance decides, and each
promise by its quicker tests. `make test-long`, which CI runs, sets `TESTS=long`: every
example, seed and fuzzed request, both databases, every place where objects may live,
and the tests that take long. Nothing else may depend on which of the two it is.
"""

import os

import pytest

LONG = os.environ.get("TESTS") == "long"

long_only = pytest.mark.skipif(not LONG, reason="takes long: make test-long")
"""For a test whose promise is kept by quicker ones too, only less thoroughly."""


def tries(all_of_them: int) -> int:
    """How many of so many to try."""
    return all_of_them if LONG else max(1, all_of_them // 5)
