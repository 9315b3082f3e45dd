"""The Ray that the contract's `cluster` half runs on, once for all of it."""

from collections.abc import Iterator

import pytest

from tests.conftest import own_valkey, url_of
from tests.ray_cluster import RayCluster


@pytest.fixture(scope="package")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A real Ray with two namespace servers, on a Valkey of its own: it keeps pools
    ready all the time, whose names other tests use too."""
    data = tmp_path_factory.mktemp("ray") / "data"
    with own_valkey() as socket:
        cluster = RayCluster(data, url_of(socket), servers=2)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
