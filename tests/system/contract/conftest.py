"""The Ray that the contract's `cluster` half runs on, once for all of it; and one on a
Valkey Cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import own_valkey, url_of
from tests.ray_cluster import RayCluster
from tests.valkey_cluster import own_valkey_cluster


@pytest.fixture(scope="package")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A real Ray with two namespace servers, on a Valkey of its own: it keeps pools
    ready all the time, whose names other tests use too."""
    with own_valkey() as socket, _ray(tmp_path_factory, url_of(socket)) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def ray_on_shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """The same on three shards."""
    with own_valkey_cluster() as shards, _ray(tmp_path_factory, shards.url) as cluster:
        yield cluster


@contextmanager
def _ray(made: pytest.TempPathFactory, valkey_url: str) -> Iterator[RayCluster]:
    data: Path = made.mktemp("ray") / "data"
    cluster = RayCluster(data, valkey_url, servers=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
