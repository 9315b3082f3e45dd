"""Two gateways over one namespace for the tests of a module; and the wire's table."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import valkey

from cfmessenger.placement import Placement
from tests.conftest import ADMIN
from tests.gateway.node import Node, live
from tests.wire_rows import NAMED, NOT_YET, ROWS

_COVERAGE = "tests/test_wire_coverage.py"


@pytest.fixture(scope="module", autouse=True)
def placement(
    request: pytest.FixtureRequest, _valkey: Path
) -> Iterator[Placement | None]:
    """Where objects live: all in one host, but for suites marked `everywhere`."""
    chosen: Placement | None = getattr(request, "param", None)
    if hasattr(request, "param"):
        # The registry keeps what people chose for 90 s: not for the next suite, nor
        # for the same one with another placement.
        path = str(_valkey)
        with valkey.Valkey(unix_socket_path=path, username=ADMIN, password="-") as own:
            own.flushall()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.gateway.node.PLACEMENT", chosen)
        yield chosen


@pytest.fixture(scope="module")
async def pair(valkey_url: str, placement: Placement | None) -> AsyncIterator[Node]:
    async with live(valkey_url, 2) as node:
        yield node


@pytest.fixture
async def node(pair: Node) -> AsyncIterator[Node]:
    """The pair, with sockets and sessions of this test's own."""
    async with pair.visit() as own:
        yield own


# The table of wire.md, at the end of a run that looks at all of it.

_covering: dict[str, set[str]] = {row: set() for row in ROWS}
_looked_at = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    global _looked_at
    for item in items:
        _looked_at |= item.nodeid.startswith(_COVERAGE)
        test = getattr(item, "function", None)
        for row in getattr(test, "wire_rows", ()):
            _covering[row].add(item.nodeid)
        name = item.nodeid.partition("[")[0]
        for row, names in NAMED.items():
            if name in names:
                _covering[row].add(item.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _looked_at:
        return
    results = {
        report.nodeid: outcome
        for outcome in ("passed", "xfailed", "failed", "error")
        for report in terminalreporter.stats.get(outcome, ())
    }
    terminalreporter.section("wire.md, row by row")
    for row, says in ROWS.items():
        tests = _covering[row]
        outcomes = [results.get(test, "not run") for test in tests]
        count = ", ".join(
            f"{outcomes.count(kind)} {kind}" for kind in sorted(set(outcomes))
        )
        terminalreporter.line(f"{row}: {says}: {count or 'not run'}")
        for name in sorted({test.partition("[")[0] for test in tests}):
            terminalreporter.line(f"    {name.removeprefix('tests/')}")
    for row, why in NOT_YET.items():
        terminalreporter.line(f"{row}: not in this version: {why}")
