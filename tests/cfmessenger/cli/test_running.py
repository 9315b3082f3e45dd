"""How commands find the messenger that runs here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cfmessenger.cli import running
from cfmessenger.cli.running import namespace_at, server_url, url_of, valkey_of
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `up` leaves, on a data folder that the environment names."""
    for name in ("CFM_HOST", "CFM_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CFM_DATA_DIR", str(tmp_path))
    runtime = RuntimeFolder(tmp_path)
    runtime.open()
    yield runtime.path
    runtime.remove()


def test_a_server_is_where_it_is_said_or_where_it_runs_or_where_it_would(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server_url() == "http://127.0.0.1:8000"
    (runtime / running.SERVER_FILE).write_text("http://127.0.0.1:4711")
    assert server_url() == "http://127.0.0.1:4711"
    monkeypatch.setenv("CFM_PORT", "9000")
    assert server_url() == "http://127.0.0.1:9000"
    monkeypatch.delenv("CFM_PORT")
    monkeypatch.setenv("CFM_HOST", "::1")
    assert server_url() == "http://[::1]:8000"


def test_what_listens_everywhere_is_reached_here() -> None:
    assert url_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert url_of("::", 80) == "http://[::1]:80"


def test_valkey_and_namespace_are_found_or_the_folder_is_named(
    runtime: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    for find in (valkey_of, namespace_at):
        with pytest.raises(Unavailable) as missing:
            find(settings)
        assert missing.value.message == f"No messenger runs on {tmp_path}."
    (runtime / running.VALKEY_FILE).write_text("unix:///v\n")
    (runtime / running.NAMESPACE_SOCKET).touch()
    assert valkey_of(settings) == "unix:///v"
    assert namespace_at(settings) == f"unix:{runtime}/namespace.sock"
    named = Settings(data_dir=tmp_path / "no", valkey_url="valkey://h")
    assert valkey_of(named) == "valkey://h"
