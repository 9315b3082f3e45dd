"""One cluster for all tests here, a visit to it for each, and what they measured."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.system.cluster.cluster import Cluster, Visit, new_folder, visiting

_measured: list[str] = []


@pytest.fixture(scope="package")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    made = Cluster(new_folder())
    try:
        made.open()
        yield made
    finally:
        _measured.extend(made.measured)
        if request.session.testsfailed:
            kept = tmp_path_factory.mktemp("cluster")
            made.keep_logs(kept)
            _measured.append(f"logs of all processes: {kept}")
        made.close()


@pytest.fixture
def measure() -> Callable[[str], None]:
    """A line for the end of the run, for tests that need no cluster."""
    return _measured.append


@pytest.fixture
async def visit(cluster: Cluster) -> AsyncIterator[Visit]:
    async with visiting(cluster) as own:
        yield own


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _measured:
        terminalreporter.section("measured in the cluster")
        for line in _measured:
            terminalreporter.write_line(line)
