"""The Ray that `up` runs: its environment, its sockets, and what it leaves behind."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfmessenger.cli.local_ray import (
    KEPT_WORKER_FILES,
    LocalRay,
    Place,
    tls_env,
    without_ray,
)
from cfmessenger.cli.ray_start import MORE
from cfmessenger.cli.runtime import DataFolder
from cfmessenger.cli.service import Launch
from cfmessenger.references import SECRETS, own
from cfmessenger.tls import Files

WORKERS = 400


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[LocalRay]:
    with DataFolder(tmp_path / "data") as data:
        yield LocalRay(data, tmp_path / "run", 2, {})


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A session's logs after many workers, with the names of Ray 2.60."""
    session = tmp_path / "run" / "ray" / "session_1"
    for folder in ("logs/events", "logs/export_events", "logs/old"):
        (session / folder).mkdir(parents=True)
    (session.parent / "session_latest").symlink_to(session)
    logs = session / "logs"
    for n in range(WORKERS):
        for name in (
            f"worker-{n:056x}-ffffffff-{n}.out",
            f"worker-{n:056x}-ffffffff-{n}.err",
            f"python-core-worker-{n:056x}_{n}.log",
            f"events/event_CORE_WORKER_{n}.log",
            f"export_events/event_EXPORT_TASK_{n}.log",
        ):
            (logs / name).touch()
            os.utime(logs / name, (n, n))
    for name in ("gcs_server.out", "events/event_GCS.log", "raylet.err"):
        (logs / name).touch()
        os.utime(logs / name, (0, 0))
    return logs


def names(logs: Path, pattern: str) -> list[str]:
    return [path.name for path in logs.glob(pattern)]


def test_files_of_workers_are_pruned_oldest_first(ray: LocalRay, logs: Path) -> None:
    ray.prune_logs()
    for pattern, kept in KEPT_WORKER_FILES.items():
        assert len(names(logs, pattern)) == (0 if "old" in pattern else kept), pattern
    newest = WORKERS - 1
    assert f"event_CORE_WORKER_{newest}.log" in names(logs, "events/*")
    assert "event_CORE_WORKER_0.log" not in names(logs, "events/*")
    assert f"event_EXPORT_TASK_{newest}.log" in names(logs, "export_events/*")
    # What is the node's own stays, however old it is.
    assert {"gcs_server.out", "raylet.err"} <= set(names(logs, "*"))
    assert "event_GCS.log" in names(logs, "events/*")


def test_logs_that_cannot_be_kept_do_not_keep_ray_from_starting(
    ray: LocalRay, logs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "logs").rmdir()
    (tmp_path / "data" / "logs").touch()  # no folder to move them to
    ray.keep_logs()
    assert "the logs of Ray are not kept" in caplog.text
    assert not logs.exists()
    launch = ray.service.launch()
    assert launch.output is None


def test_it_is_reached_by_its_sockets(ray: LocalRay, logs: Path) -> None:
    reached = ray.service.reached
    assert reached is not None and not reached()
    sockets = logs.parent / "sockets"
    sockets.mkdir()
    needed = [sockets / "raylet", sockets / "plasma_store"]
    needed.append(logs.parent.parent / "ray_current_cluster")
    for path in needed:
        path.touch()
    assert reached()
    for path in needed:
        path.unlink()
        assert not reached()
        path.touch()
    # Each worker of Ray's removes this on its start, and makes it anew.
    (logs.parent.parent / "session_latest").unlink()
    assert reached()


def test_what_was_set_for_another_cluster_does_not_reach_ours() -> None:
    env = {
        "PATH": "/bin",
        "CFM_PORT": "1",
        "ARRAY_SIZE": "1",
        "RAY_ADDRESS": "ray.example:6379",
        "RAY_AUTH_TOKEN": "another",
        "RAY_AUTH_TOKEN_PATH": "/another",
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": "/elsewhere",
        "RAY_whatever_else": "1",
    }
    assert without_ray(env) == {"PATH": "/bin", "CFM_PORT": "1", "ARRAY_SIZE": "1"}


ENV = {
    "PATH": "/bin",
    "CFM_VALKEY_URL": "valkeys://u:hush1@v:1",
    "CFM_TURNSTILE_SECRET_KEY": "hush2",
    "CFM_AI_KEY": "hush3",
}


def launched(tmp_path: Path, place: Place | None) -> Launch:
    with DataFolder(tmp_path / "data") as data:
        found = LocalRay(data, tmp_path / "run", 2, ENV, place).service.launch()
    if found.output is not None:
        os.close(found.output)
    return found


def test_what_actors_read_is_in_a_file_of_ours_and_not_in_rays_environment(
    tmp_path: Path,
) -> None:
    found = launched(tmp_path, None)
    file = Path(found.env[SECRETS])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert own(found.env).valkey_url == ENV["CFM_VALKEY_URL"]
    assert own(found.env).ai_key == "hush3"
    assert "hush2" not in file.read_text(), "no actor needs it"
    said = " ".join([*found.command, *found.env.values()])
    assert "hush" not in said and "CFM_" not in "".join(found.env)
    assert "RAY_USE_TLS" not in found.env


def test_with_certificates_rays_processes_speak_tls_and_so_does_its_store(
    tmp_path: Path,
) -> None:
    url = "valkeys://ray:hu%20sh@v:2?ssl_ca_certs=%2Fca&ssl_certfile=%2Fboth"
    files = Files(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    place = Place("10.0.0.2", "secret", port=6380, store=url, tls=files)
    env = launched(tmp_path, place).env
    assert env["RAY_USE_TLS"] == "1"
    assert env["RAY_TLS_CA_CERT"] == str(files.ca)
    assert env["RAY_TLS_SERVER_KEY"] == str(files.key)
    assert env["RAY_REDIS_ADDRESS"] == "rediss://v:2"
    assert env["RAY_REDIS_CA_CERT"] == "/ca"
    assert (env["RAY_REDIS_CLIENT_CERT"], env["RAY_REDIS_CLIENT_KEY"]) == (
        "/both",
        "/both",
    )
    assert env[MORE] == "--redis-username=ray\n--redis-password=hu sh"
    assert tls_env(None) == {}
    assert tls_env(Files(files.ca, files.cert))["RAY_TLS_SERVER_KEY"] == str(files.cert)
