"""The Ray node that this machine runs: `up` its whole Ray, `head` and `node` their part
of a cluster's (design.md §2, §5, §6).

Owns how Ray is started and stopped: its own command line as a child, never `import ray`
and never `ray stop`, which kills by name. What the product does not use is off: the
dashboard's server, the autoscaler, the log monitor, usage statistics, metrics, task
events. With `up` everything listens on loopback; whoever comes needs a token.
"""

from __future__ import annotations

import hmac
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cfmessenger.addresses import valkey_parameters
from cfmessenger.cli.ray_start import MORE
from cfmessenger.cli.runtime import (
    DataFolder,
    open_log,
    private_folder,
    told,
    write_private,
)
from cfmessenger.cli.service import Launch, Service
from cfmessenger.environment import PREFIX
from cfmessenger.references import SECRETS, kept_for_actors
from cfmessenger.storage.resp import endpoint_of
from cfmessenger.tls import Files

log = logging.getLogger("cfmessenger.up")

NAME = "ray"
SECRETS_FILE = "secrets.json"

# The least Ray accepts. No object of ours is large enough to go there.
OBJECT_STORE_BYTES = 75 * 1024 * 1024

# Imported by every worker before it is given an actor, so that a room on a warm worker
# does not wait for it.
PRELOADED = "actors.object_actor"

# Files which Ray makes for each worker there ever was, below the session's logs, and
# how many of each kind are kept. Those of the node itself are other files.
KEPT_WORKER_FILES = {
    "*worker-*": 300,  # three a worker
    "events/event_CORE_WORKER_*": 100,
    "export_events/event_EXPORT_TASK_*": 100,
    "old/*worker-*": 100,
}

_RAY = "RAY_"


def without_ray(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what Ray reads of it.

    It was set for another cluster: it would send us there, or let us in with another
    token (RAY_AUTH_TOKEN goes before RAY_AUTH_TOKEN_PATH).
    """
    return {name: value for name, value in env.items() if not name.startswith(_RAY)}


_COMMAND = "from cfmessenger.cli.ray_start import main; main()"

_NODE_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Actors at nice 15 starve beside gateways at 0.
    "RAY_worker_niceness": "0",
    # Python's own allocator never gives back what thousands of rooms occupied once
    # they sleep; the C library's does (actors/memory.py), and costs no more.
    "PYTHONMALLOC": "malloc",
    # On SIGTERM Ray would wait 30 s for actors to leave. By then ours have.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_timeline": "0",
    "RAY_task_events_report_interval_ms": "0",
    # What a node looks at ten times a second by default, for objects, resources and
    # autoscalers that there are not here. Of its memory it looks as often as we do.
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_kill_idle_workers_interval_ms": "1000",
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "10000",
    # A room that hibernates is a dead actor; the default remembers 100,000 of them.
    "RAY_maximum_gcs_destroyed_actor_cached_count": "1000",
    # A node is declared dead after 5 s when it refuses, 20 s when it hangs; defaults
    # are 15 s and 65 s. Shorter would mistake a starved machine for a dead one.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_ROTATION_MAX_BYTES": str(4 * 1024 * 1024),
    "RAY_ROTATION_BACKUP_COUNT": "1",
    "RAY_BACKEND_LOG_LEVEL": "warning",
}


HEADLESS_S = 600
"""Rooms do without the control store, so a node waits for it for so long: for a head
that somebody begins elsewhere, not for the minute that is Ray's default."""


class Place(NamedTuple):
    """This machine's part in a Ray of several.

    `address`: under which the others reach it. `head`: host:port of the control store;
    None: here, on `port`, and what it knows is kept at `store` (a Valkey's URL; None:
    nowhere) under the `name` of this Ray. `secret`: what all machines share. `tls`:
    Ray's processes speak it.
    """

    address: str
    secret: str
    head: str | None = None
    port: int = 0
    store: str | None = None
    tls: Files | None = None
    name: str = ""


class LocalRay:
    """One node on this machine, with its files in the runtime folder.

    `place` None: it is the whole Ray, and on loopback.
    """

    def __init__(
        self,
        data: DataFolder,
        runtime: Path,
        warm_workers: int,
        env: Mapping[str, str],
        place: Place | None = None,
    ) -> None:
        self._place = place
        self._runtime = runtime
        self.folder = runtime / "ray"
        self._session_logs = self.folder / "session_latest" / "logs"
        self._logs = data.logs / "ray"  # while it runs a link to the above
        self._log = data.logs / "ray.log"  # what its command says
        self._token = data.secret("ray.token") if place is None else None
        self._warm_workers = warm_workers
        self._env = env

    @property
    def driver_env(self) -> dict[str, str]:
        """What a process needs to connect to it, besides the address."""
        env = {"RAY_USAGE_STATS_ENABLED": "0"}
        if self._place is not None:
            env["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(HEADLESS_S)
            return env | token_env(self._place.secret) | tls_env(self._place.tls)
        return env | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            # The switch's name is about other systems; what it does is keep every
            # listener and address of Ray on 127.0.0.1.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    @property
    def address(self) -> str:
        """host:port of the head that runs now; another one after a restart."""
        return self._address_file.read_text().strip()

    @property
    def service(self) -> Service:
        """For the supervisor."""
        return Service(
            NAME,
            self._launch,
            self._serves,
            # Whether it answers is for its driver to say (cli/serve.py): from outside a
            # hung one looks like any other.
            reached=self._reached,
            reason=self._reason,
            ready_s=60.0,
        )

    @property
    def _address_file(self) -> Path:
        return self.folder / "ray_current_cluster"

    def keep_logs(self) -> None:
        """Moves the logs of a node that has ended to the data folder, if it can."""
        try:
            self._keep_logs()
        except OSError as error:
            log.warning("the logs of Ray are not kept: %s", told(error))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_logs(self) -> None:
        if self._logs.is_symlink():
            self._logs.unlink()
        if self._session_logs.is_dir():
            self._set_last_logs_aside()
            self._logs.mkdir(mode=0o700)
            for file in self._session_logs.iterdir():
                if file.is_file():
                    shutil.copyfile(file, self._logs / file.name)

    def prune_logs(self) -> None:
        """Deletes the oldest files of workers: Ray keeps those of every worker ever."""
        for pattern, kept in KEPT_WORKER_FILES.items():
            by_age = []
            for path in self._session_logs.glob(pattern):
                with suppress(OSError):  # deleted meanwhile
                    by_age.append((path.stat().st_mtime_ns, path))
            for _, path in sorted(by_age)[:-kept]:
                with suppress(OSError):
                    path.unlink()

    def _launch(self) -> Launch:
        self.keep_logs()
        private_folder(self._runtime)
        private_folder(self.folder)
        try:
            self._set_last_logs_aside()
            self._logs.symlink_to(self._session_logs)
        except OSError as error:
            log.warning("no link to the logs of Ray: %s", told(error))
        startup = max(self._warm_workers, os.cpu_count() or 1)
        # No setting either: actors get what they need from whoever creates them, and
        # what is secret from a file: an environment is passed on to all that starts.
        env = {
            name: value
            for name, value in without_ray(self._env).items()
            if not name.startswith(PREFIX)
        }
        kept = kept_for_actors(self._env).decode()
        write_private(self._runtime / SECRETS_FILE, kept)
        env[SECRETS] = str(self._runtime / SECRETS_FILE)
        env |= _NODE_ENV | self.driver_env
        if self._place is not None and self._place.store is not None:
            env |= _kept_at(self._place.store, self._place.name)
        env["RAY_preload_python_modules"] = PRELOADED
        # As many workers at once as are kept warm, not as many as there are cores.
        env["RAY_worker_maximum_startup_concurrency"] = str(startup)
        return Launch(
            [sys.executable, "-c", _COMMAND, "start", *self._flags()],
            env,
            # Its processes overwrite their environment (titles): this is how a later
            # start recognises them.
            cwd=self._runtime,
            output=open_log(self._log),
        )

    def _flags(self) -> list[str]:
        return [
            *self._part(),
            "--block",
            "--dashboard-agent-listen-port=0",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            # Logical: how many idle workers are started and kept. Rooms reserve none.
            f"--num-cpus={self._warm_workers}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            *self._labels(),
            f"--temp-dir={self.folder}",
        ]

    def _part(self) -> list[str]:
        """Head or not, and where it listens."""
        head = ["--head", "--dashboard-port=0", "--include-dashboard=false"]
        head += ["--no-monitor"]
        if self._place is None:
            return [*head, "--port=0"]
        mine = f"--node-ip-address={self._place.address}"
        if self._place.head is None:
            return [*head, mine, f"--port={self._place.port}"]
        return [mine, f"--address={self._place.head}"]

    def _labels(self) -> list[str]:
        """This node is where its objects want to live, as far as Ray can spell it."""
        hint = self._env.get("CFM_LOCATION_HINT", "")
        spelt = hint and hint == hint.strip("-")
        return [f"--labels=region={hint}"] if spelt else []

    def _set_last_logs_aside(self) -> None:
        if self._logs.is_dir():
            before = self._logs.with_name(self._logs.name + ".1")
            shutil.rmtree(before, ignore_errors=True)
            self._logs.replace(before)

    async def _serves(self) -> bool:
        # Ray writes it when the node has registered: the last thing it does.
        return self._address_file.exists() and self.address != ""

    def _reached(self) -> bool:
        """Workers come by these sockets; the address is for who connects later.

        Not by `session_latest` alone: each worker that starts removes that link and
        makes it anew, and a look in between would end a Ray that lacks nothing.
        """
        return self._address_file.exists() and any(
            all((sockets / name).exists() for name in ("raylet", "plasma_store"))
            for sockets in self.folder.glob("session_*/sockets")
        )

    def _reason(self, code: int) -> str:
        """The last thing its command said."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1][:300]} (see {self._log})" if code > 0 and said else ""


def token_env(secret: str) -> dict[str, str]:
    """By which Ray knows the machines of a cluster: a token made of their secret, which
    it does not give away."""
    made = hmac.digest(secret.encode(), b"ray", "sha256").hex()
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": made}


def tls_env(files: Files | None) -> dict[str, str]:
    """By which Ray's processes speak TLS with each other. They check names, too: a
    certificate must be for its machine's address and for 127.0.0.1."""
    if files is None:
        return {}
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(files.ca),
        "RAY_TLS_SERVER_CERT": str(files.cert),
        "RAY_TLS_SERVER_KEY": str(files.key or files.cert),
    }


def _kept_at(url: str, name: str) -> dict[str, str]:
    """What makes a control store keep in a Valkey what it knows."""
    at, said = endpoint_of(url), valkey_parameters(url)
    certificate = said.get("ssl_certfile")
    files = {
        "RAY_REDIS_CA_CERT": said.get("ssl_ca_certs"),
        "RAY_REDIS_CLIENT_CERT": certificate,
        "RAY_REDIS_CLIENT_KEY": said.get("ssl_keyfile", certificate),
    }
    return {
        "RAY_REDIS_ADDRESS": f"{'rediss://' if at.tls else ''}{at.host}:{at.port}",
        "RAY_external_storage_namespace": f"cfm-{name}" if name else "cfm",
        **{name: file for name, file in files.items() if file},
        MORE: "\n".join(
            f"--redis-{name}={value}"
            for name, value in (("username", at.username), ("password", at.password))
            if value
        ),
    }
