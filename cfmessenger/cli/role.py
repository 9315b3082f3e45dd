"""What runs on a machine: the whole messenger, or one role in a cluster of several.

Owns which processes there are, what each is told, and the order in which they start and
stop: Valkey and Ray together, then the namespace server, then the gateways; back the
same way, with everything gone in ten seconds. Must not serve anything itself. One line
on stdout when it is ready; the rest goes to stderr.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Literal, NamedTuple

import click

from cfmessenger import log_format
from cfmessenger.cli import embedded_valkey, local_ray, service, world
from cfmessenger.cli.embedded_valkey import EmbeddedValkey
from cfmessenger.cli.flags import EXIT_SETTINGS
from cfmessenger.cli.joined import Joined, alone_or_shared, join
from cfmessenger.cli.local_ray import LocalRay
from cfmessenger.cli.running import NAMESPACE_SOCKET, SERVER_FILE, url_of
from cfmessenger.cli.runtime import (
    MARKER,
    DataFolder,
    InUse,
    Refused,
    RuntimeFolder,
    end_leftovers,
    private_folder,
    require_linux,
    told,
    write_private,
)
from cfmessenger.cli.service import Launch, Service
from cfmessenger.cli.supervisor import StartFailed, Supervisor
from cfmessenger.cli.world import Absent
from cfmessenger.environment import FILE, SettingsError, variable
from cfmessenger.errors import Unavailable
from cfmessenger.settings import ABOUT, Settings, cores

log = logging.getLogger("cfmessenger.up")

NAMESPACE = "namespace"
LISTEN_FD = "CFMX_LISTEN_FD"
NAMESPACE_ADDRESS = "CFMX_NAMESPACE"
OWNER = "CFMX_OWNER"
TAKE_OVER = "CFMX_TAKE_OVER"
POOL_SIZE = "CFMX_POOL_SIZE"
RAY_ADDRESS = "CFMX_RAY_ADDRESS"
RAY_FOLDER = "CFMX_RAY_FOLDER"
GATEWAY_NUMBER = "CFMX_GATEWAY"
PLACEMENT_SEED = "CFMX_PLACEMENT_SEED"

TAKEN = "another cluster uses this Valkey now"
DRAINED = "Ray ends this node, and its rooms have left"

BACKLOG = 2048
TIDY_S = 60.0

# Seconds after the signal at which each of these is killed if it has not gone by then;
# with roles of a cluster later by what `CFM_DRAIN_S` is above this. The rooms get what
# the gateways leave, and at least 2 s.
LONGEST_DRAIN_S = 4.5
GATEWAYS_GONE_S = 5.0
NAMESPACE_GONE_S = 7.2
RAY_GONE_S = 8.8
VALKEY_GONE_S = 9.5


class Role(NamedTuple):
    """Which part of a messenger runs here. `ray`: its own and whole, a cluster's head
    or node, or None; `says`: what is told when it is ready, with the place it is at."""

    name: str
    says: str
    ray: Literal["own", "head", "node"] | None = None
    namespace: bool = False
    gateways: bool = False


UP = Role("up", "CF Messenger is ready at {url}", "own", namespace=True, gateways=True)
HEAD = Role("head", "The head is ready at {head}", "head")
NODE = Role("node", "The node is ready at {namespace}", "node", namespace=True)
GATEWAY = Role("gateway", "CF Messenger is ready at {url}", gateways=True)


def run_role(role: Role, settings: Settings, take_over: bool = False) -> None:
    """Run it until SIGINT or SIGTERM. What prevents that is one line on stderr, and an
    exit code: 3 for settings, else 1."""
    log_format.configure(settings.log_level, settings.log_format)
    folder = settings.data_dir if role is UP else settings.data_dir / role.name
    try:
        require_linux()
        with DataFolder(folder) as data:
            asyncio.run(Run(role, settings, data, take_over).run())
    except (SettingsError, StartFailed, InUse, Refused, Absent) as error:
        click.echo(f"cfmessenger: {error}", err=True)
        code = error.code if isinstance(error, StartFailed) else 1
        sys.exit(EXIT_SETTINGS if isinstance(error, SettingsError) else code)
    except Unavailable as error:
        click.echo(f"cfmessenger: {error.message}", err=True)
        sys.exit(1)
    except OSError as error:
        log.debug("what could not be done", exc_info=True)
        click.echo(f"cfmessenger: {told(error)}", err=True)
        sys.exit(1)


class Run:
    """One run of a role on a data folder that is locked."""

    def __init__(
        self, role: Role, settings: Settings, data: DataFolder, take_over: bool
    ) -> None:
        self._role = role
        self._take_over = take_over
        # What it knows of its cluster, from `run` on; None: it is one of its own.
        self._cluster: Joined | None = None
        self._settings = settings
        self._data = data
        self._runtime = RuntimeFolder(data.path)
        self._supervisor = Supervisor()
        self._valkey: EmbeddedValkey | None = None
        self._ray: LocalRay | None = None
        count = settings.gateways if role.gateways else 0
        self._gateways = [f"gateway-{n}" for n in range(count)]
        self._metrics = self._runtime.path / "metrics"
        self._namespace = self._runtime.path / NAMESPACE_SOCKET
        self._url = ""  # known once it listens
        self._env: dict[str, str] = {}  # of every child, from `run` on
        self._taken = asyncio.Event()  # once another cluster took Valkey over
        self._drained = asyncio.Event()  # once this node has left as Ray told it to

    async def run(self) -> None:
        """Start, say so, wait for SIGINT or SIGTERM, stop. Raises what `run_role`
        reports."""
        began = time.monotonic()
        await world.check(self._settings, self._role.ray == "own")
        if left := end_leftovers(self._runtime.path):
            log.warning("ended what an earlier start left: %s", ", ".join(left))
        if self._role is not UP:
            self._cluster = await join(self._settings, self._role.ray)
        elif self._settings.ray_address is not None:
            await alone_or_shared(self._settings)
        self._env = self._common_env()
        with ExitStack() as ours:
            listener = None
            if self._role.gateways:
                listener = ours.enter_context(
                    _listen(self._settings.host, self._settings.port)
                )
                self._url = url_of(*listener.getsockname()[:2])
            self._runtime.open()
            stopping = on_signals(self._supervisor.kill_all)
            try:
                self._share_metrics()
                self._supervisor.open()
                self._start(listener)
                ready = asyncio.ensure_future(self._supervisor.ready())
                await asyncio.wait(
                    (ready, stopping), return_when=asyncio.FIRST_COMPLETED
                )
                if ready.done():
                    ready.result()
                    self._env.pop(TAKE_OVER, None)  # once: else two would take turns
                    log.info("started in %.1f s", time.monotonic() - began)
                    click.echo(self._ready())
                    await self._tidy_until(stopping)
                ready.cancel()
            finally:
                ours.close()
                await self._stop()
                self._runtime.remove()

    def _ready(self) -> str:
        joined = self._cluster
        return self._role.says.format(
            url=self._url,
            head=self._ray.address if self._ray else "",
            namespace=joined.namespace if joined else "",
        )

    def _start(self, listener: socket.socket | None) -> None:
        settings, supervisor, role = self._settings, self._supervisor, self._role
        needs: list[str] = []
        if settings.valkey_url is None:
            self._valkey = EmbeddedValkey(
                self._data, self._runtime.path, settings.fsync
            )
            self._env["CFM_VALKEY_URL"] = self._valkey.url
            # We are the whole system, so each start follows the settings anew.
            self._env[PLACEMENT_SEED] = secrets.token_hex(8)
            supervisor.start(self._valkey.service)
            needs.append(embedded_valkey.NAME)
        if role.ray is not None and settings.ray_address is None:
            self._ray = LocalRay(
                self._data,
                self._runtime.path,
                settings.warm_workers if role.namespace else 0,
                self._env,
                self._cluster.place if self._cluster else None,
            )
            supervisor.start(self._ray.service)
            needs.append(local_ray.NAME)
        if role.namespace:
            supervisor.start(
                Service(
                    NAMESPACE,
                    self._launch_namespace,
                    needs=tuple(needs),
                    # A Ray driver does not outlive its cluster.
                    follows=local_ray.NAME if self._ray else None,
                    reached=lambda: os.path.exists(self._namespace),
                    reason=self._why_namespace_ended,
                )
            )
            needs = [NAMESPACE]
        if listener is None:
            return
        for number, name in enumerate(self._gateways):
            supervisor.start(
                Service(
                    name,
                    partial(self._launch_gateway, listener, number),
                    needs=tuple(needs),
                    ended=self._forget_metrics,
                )
            )

    async def _tidy_until(self, stopping: asyncio.Future[None]) -> None:
        works = (self._tidy(), self._end(), self._left())
        tasks = [asyncio.create_task(each) for each in works]
        if self._cluster is not None:
            tasks.append(asyncio.create_task(self._cluster.keep()))
        try:
            await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                if each.done():
                    each.result()  # why it cannot go on
        finally:
            for each in tasks:
                each.cancel()

    async def _left(self) -> None:
        """Returns once this node has left as Ray told it to."""
        await self._drained.wait()

    async def _end(self) -> None:
        """Raises `Refused` once this Valkey is another cluster's: it was told to take
        it over, so this one is not to wait for a chance to take it back."""
        await self._taken.wait()
        raise Refused(TAKEN)

    def _why_namespace_ended(self, code: int) -> str:
        match code:
            case service.EXIT_TAKEN:
                self._taken.set()
                return TAKEN
            case service.EXIT_DRAINED:
                self._drained.set()
                return DRAINED
        return ""

    async def _tidy(self) -> None:
        while True:
            if self._ray is not None:
                self._ray.prune_logs()
            with suppress(OSError):  # deleted meanwhile: the supervisor notices too
                self._runtime.keep()
            await asyncio.sleep(TIDY_S)

    async def _stop(self) -> None:
        supervisor, loop = self._supervisor, asyncio.get_running_loop()
        asked = began = loop.time()
        log.info("stopping")
        began += self._drain_s - min(self._drain_s, LONGEST_DRAIN_S)
        await supervisor.stop(self._gateways, began + GATEWAYS_GONE_S)
        await supervisor.stop([NAMESPACE], began + NAMESPACE_GONE_S)
        await supervisor.stop([local_ray.NAME], began + RAY_GONE_S)
        await supervisor.stop([embedded_valkey.NAME], began + VALKEY_GONE_S)
        await supervisor.close()
        if self._cluster is not None:
            await self._cluster.leave()
        if self._ray is not None:
            self._ray.keep_logs()
        log.info("stopped in %.1f s", loop.time() - asked)

    @property
    def _drain_s(self) -> float:
        """A machine's own messenger is gone in ten seconds, whatever is set."""
        longest = LONGEST_DRAIN_S if self._role is UP else self._settings.drain_s
        return min(self._settings.drain_s, longest)

    def _common_env(self) -> dict[str, str]:
        # What stood in a file is a value by now.
        files = {variable(each) + FILE for each, told in ABOUT.items() if told.hides}
        env = {
            **{name: v for name, v in os.environ.items() if name not in files},
            **self._settings.to_env(),
            "CFM_DRAIN_S": str(self._drain_s),
            MARKER: str(self._runtime.path),
        }
        if self._role.namespace:
            env[NAMESPACE_ADDRESS] = f"unix:{self._namespace}"
        if "CFM_POOL_SIZE" in os.environ or self._settings.pool_size != cores():
            env[POOL_SIZE] = "1"  # somebody has said it
        if self._take_over:
            env[TAKE_OVER] = "1"
        if self._cluster is not None:
            return env | self._cluster.env
        if self._settings.ray_address is not None:
            return env  # the cluster's own id
        # Our data folder has one owner, so whoever was here before us is gone.
        return env | {OWNER: self._data.secret("owner.id").read_text()}

    def _share_metrics(self) -> None:
        """Lets /metrics of any gateway sum all of them (prometheus-client's way)."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        if len(self._gateways) > 1:
            self._env["PROMETHEUS_MULTIPROC_DIR"] = str(self._metrics)

    def _forget_metrics(self, pid: int) -> None:
        # What mark_process_dead() does, without importing the library here.
        for gauge in self._metrics.glob(f"gauge_live*_{pid}.db"):
            gauge.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        private_folder(self._runtime.path)
        private_folder(self._metrics)
        with suppress(OSError):  # a full disk is no reason not to start
            write_private(self._runtime.path / SERVER_FILE, self._url)

    def _launch_namespace(self) -> Launch:
        self._make_folders()
        env = dict(self._env)
        if self._ray is not None:
            env = local_ray.without_ray(env) | self._ray.driver_env
            env[RAY_ADDRESS] = self._ray.address
            env[RAY_FOLDER] = str(self._ray.folder)
        elif self._settings.ray_address is not None:
            env[RAY_ADDRESS] = self._settings.ray_address
        return Launch(_ourselves("namespace"), env)

    def _launch_gateway(self, listener: socket.socket, number: int) -> Launch:
        self._make_folders()
        fd = listener.fileno()
        env = {**self._env, LISTEN_FD: str(fd), GATEWAY_NUMBER: str(number)}
        return Launch(_ourselves("gateway"), env, inherit=(fd,))


def _ourselves(command: str) -> list[str]:
    return [sys.executable, "-m", "cfmessenger", f"{command}-process"]


def _listen(host: str, port: int) -> socket.socket:
    """The socket every gateway accepts from. Raises `Refused` if it cannot be had."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {told(error)}") from None
    return listener


def on_signals(again: Callable[[], None]) -> asyncio.Future[None]:
    """Done at the first SIGINT, SIGTERM or SIGHUP; `again` is called at each later."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()

    def received() -> None:
        if asked.done():
            again()
        else:
            asked.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, received)
    return asked
