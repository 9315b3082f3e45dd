"""The Ray that the contract's `cluster` half runs on, once a session."""

from collections.abc import Iterator

import pytest

from tests.ray_cluster import RayCluster


@pytest.fixture(scope="session")
def ray_cluster(
    valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayCluster]:
    """A real Ray with two namespace servers, on the tests' Valkey."""
    data = tmp_path_factory.mktemp("ray") / "data"
    cluster = RayCluster(data, valkey_url, servers=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
