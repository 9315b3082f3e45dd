"""A real `cfmessenger up` under test: started, looked into, hurt, and ended whole.

Owns which process is which, told by what `up` itself says: the names it gives to its
children, its descendants in /proc, and the namespace's list of rooms. A name is matched
only among our own descendants, and a signal reaches only a process of which id and
start time agree. Must not decide what is hurt (`faults`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import httpx2
import msgspec
import psutil
import valkey.asyncio as valkey

from cfmessenger.cli import process
from cfmessenger.cli.process import Entry
from cfmessenger.cli.runtime import CHILD, RuntimeFolder
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Described, NamespaceClient
from cfmessenger.placement import Mode, Placement
from cfmessenger.storage.generation import Generation
from cfmessenger.storage.log import ValkeyLog

START_S = 90.0
STOP_S = 12.0
READY = "CF Messenger is ready at "


class Messenger:
    """One `up` on a data folder of its own in a temporary folder; `async with`.

    `env` are `CFM_*` settings; `people` is how many users there are (`user(n)`). The
    folder stays for a post-mortem until `discard`. `left` names what was still running
    after `up` had ended.
    """

    def __init__(self, people: int, **env: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cfm-chaos-"))
        self.data = self.folder / "data"
        self.log = self.folder / "up.log"
        self.url = ""
        self.start_s = 0.0  # how long the start took: a measure of this machine, too
        self.left: list[str] = []
        self._seen: set[Entry] = set()
        self._stopped: set[Entry] = set()
        self._env = {
            "CFM_DATA_DIR": str(self.data),
            "CFM_USERS": str(self._write_people(people)),
            "CFM_OPEN_ROOMS": "1",
            "CFM_LOGIN_RATE": "0",
            "CFM_NEW_ROOM_RATE": "0",
            "CFM_LOG_LENGTH": "1000000",
            "CFM_LOG_FORMAT": "json",
            **env,
        }
        self.runtime = RuntimeFolder(self.data).path
        self._namespace = NamespaceClient(f"unix:{self.runtime / 'namespace.sock'}")
        self._pids: dict[str, int] = {}

    @staticmethod
    def user(n: int) -> str:
        """The id of the n-th person."""
        return f"person-{n:04d}"

    @staticmethod
    def display_name(n: int) -> str:
        """Their name, different for each."""
        return f"Person {n:04d}"

    def _write_people(self, count: int) -> Path:
        path = self.folder / "users.json"
        people = [
            {
                "id": self.user(n),
                "email": f"{self.user(n)}@example.org",
                "displayName": self.display_name(n),
                "avatarId": "avatar-1",
            }
            for n in range(count)
        ]
        path.write_text(json.dumps(people))
        return path

    async def __aenter__(self) -> Self:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # SIGTERM if we die: `up` then ends its family in good order.
            self._popen = process.spawn(
                [sys.executable, "-m", "cfmessenger", "up", "--port", "0"],
                {**clean, **self._env},
                death_signal=signal.SIGTERM,
                output=output,
            )
        finally:
            os.close(output)
        try:
            await self._wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def _wait_ready(self) -> None:
        began = time.monotonic()
        end = began + START_S
        while not self.url:
            if self._popen.poll() is not None or time.monotonic() > end:
                tail = self.log.read_text()[-2000:]
                raise RuntimeError(f"`up` did not get ready:\n{tail}")
            await asyncio.sleep(0.1)
            for line in self.log.read_text().splitlines():
                if line.startswith(READY):
                    self.url = line.removeprefix(READY).strip()
                    self.start_s = time.monotonic() - began
        self.family()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def discard(self) -> None:
        """Delete the folder; for when there is nothing in it to look at."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def stop(self) -> float:
        """End `up` and everything it started; the seconds that took."""
        began = time.monotonic()
        self.continue_all()
        self.family()
        await self._namespace.close()
        if self._popen.poll() is None:
            self._popen.terminate()
        end = began + STOP_S
        while self._popen.poll() is None and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if self._popen.poll() is None:
            self.left.append("up itself")
            self._popen.kill()
            self._popen.wait(5)
        took = time.monotonic() - began
        for row in process.wait_gone(self._seen, 0.5):
            self.left.append(self._command(row)[:80])
            process.send(row, signal.SIGKILL)
        if self.runtime.exists():
            shutil.rmtree(self.runtime, ignore_errors=True)
        return took

    # Who is who.

    def family(self) -> list[Entry]:
        """Every process it started that runs now; all of them are remembered."""
        found = process.descendants(self._popen.pid)
        self._seen.update(found)
        return found

    def child(self, name: str) -> Entry | None:
        """A child by the name under which `up` runs it: "valkey", "gateway-0"."""
        for row in self.family():
            if row.parent == self._popen.pid:
                if process.environment(row.pid).get(CHILD) == name:
                    return row
        return None

    def gateways(self) -> dict[str, Entry]:
        """The gateways that run, by name."""
        count = int(self._env.get("CFM_GATEWAYS", "1"))
        named = {f"gateway-{n}": self.child(f"gateway-{n}") for n in range(count)}
        return {name: row for name, row in named.items() if row is not None}

    def gateways_by_pid(self) -> dict[int, Entry]:
        """The gateways that run, by process id."""
        return {row.pid: row for row in self.gateways().values()}

    def descendant(self, program: str) -> Entry | None:
        """The one of our own descendants that runs this program file."""
        for row in self.family():
            with contextlib.suppress(OSError):
                if Path(os.readlink(f"/proc/{row.pid}/exe")).name == program:
                    return row
        return None

    async def rooms(self) -> list[Described]:
        """What `cfmessenger rooms` lists; nothing while the namespace is away."""
        try:
            async with asyncio.timeout(4.0):
                found = await self._namespace.describe()
        except (Unavailable, TimeoutError):
            return []
        for each in found:
            if each.pid:
                self._pids[each.name] = each.pid
        return found

    async def room(self, name: str) -> Entry | None:
        """The process of an object, if it is awake and one of ours."""
        await self.rooms()
        family = {row.pid: row for row in self.family()}
        return family.get(self._pids.get(name, 0))

    async def awake(self) -> dict[str, Entry]:
        """The processes of all objects that are awake."""
        found = await self.rooms()
        family = {row.pid: row for row in self.family()}
        return {e.name: family[e.pid] for e in found if e.pid in family}

    def ports(self, gateway: Entry) -> set[int]:
        """The clients' ends of the gateway's connections."""
        try:
            connections = psutil.Process(gateway.pid).net_connections("tcp")
        except psutil.Error:
            return set()
        listening = int(self.url.rpartition(":")[2])
        return {
            c.raddr.port for c in connections if c.raddr and c.laddr.port == listening
        }

    def command(self, pattern: str) -> list[Entry]:
        """Descendants whose command line contains `pattern`."""
        return [row for row in self.family() if pattern in self._command(row)]

    @staticmethod
    def _command(row: Entry) -> str:
        try:
            raw = Path(f"/proc/{row.pid}/cmdline").read_bytes()
        except OSError:
            return f"process {row.pid}"
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()

    def valkey(self) -> valkey.Valkey:
        """A connection to its Valkey, with the product's own rights."""
        url = (self.runtime / "valkey.url").read_text()
        found: valkey.Valkey = valkey.Valkey.from_url(url)
        return found

    # What is done to it.

    def send(self, target: Entry, number: signal.Signals) -> None:
        """Signal a process of ours; a stopped one is remembered."""
        self.family()
        process.send(target, number)
        if number == signal.SIGSTOP:
            self._stopped.add(target)
        elif number == signal.SIGCONT:
            self._stopped.discard(target)

    def continue_all(self) -> None:
        """Nothing stays stopped."""
        for target in self._stopped:
            process.send(target, signal.SIGCONT)
        self._stopped.clear()

    async def place(self, mode: Mode, size: int) -> Placement:
        """As `cfmessenger placement`. Raises `Unavailable` or `TimeoutError`."""
        async with asyncio.timeout(4.0):
            return await self._namespace.place(mode, size)

    async def pin(self, name: str) -> Placement:
        """As `cfmessenger placement pin`. Raises `Unavailable` or `TimeoutError`."""
        async with asyncio.timeout(4.0):
            return await self._namespace.pin(name)

    async def unpin(self, name: str) -> Placement:
        """And `unpin`."""
        async with asyncio.timeout(4.0):
            return await self._namespace.unpin(name)

    @asynccontextmanager
    async def generation(self) -> AsyncIterator[Generation]:
        """What a host proposes by; within 4 s, or `TimeoutError`."""
        log = ValkeyLog((self.runtime / "valkey.url").read_text().strip(), 0)
        try:
            async with asyncio.timeout(4.0):
                yield Generation(log)
        finally:
            log.close()

    async def ready(self, timeout_s: float) -> bool:
        """All gateways run and `/readyz` says yes several times, whoever answers."""
        end = time.monotonic() + timeout_s
        count = int(self._env.get("CFM_GATEWAYS", "1"))
        good = 0
        async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as http:
            while good < 3 * count:
                if time.monotonic() > end:
                    return False
                good = good + 1 if await self._serves(http, count) else 0
                await asyncio.sleep(0.05)
        return True

    async def _serves(self, http: httpx2.AsyncClient, gateways: int) -> bool:
        if len(self.gateways()) < gateways:
            return False
        try:
            # A connection of its own, so that the kernel chooses again.
            answer = await http.get(
                f"{self.url}/readyz", headers={"Connection": "close"}
            )
        except httpx2.HTTPError:
            return False
        return answer.status_code == 200

    def pss_kib(self, row: Entry) -> int:
        """Proportional set size, the honest share of memory."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{row.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1])
        return 0

    def actor_log(self, text: str) -> list[str]:
        """Lines with this text in the logs of actor processes."""
        found = []
        for path in sorted((self.data / "logs" / "ray").glob("worker-*")):
            with contextlib.suppress(OSError):
                lines = path.read_text(errors="replace").splitlines()
                found += [line for line in lines if text in line]
        return found

    def errors(self) -> dict[str, int]:
        """Warnings and errors in all logs, counted by their text without numbers."""
        counts: Counter[str] = Counter()
        paths = [self.log, *(self.data / "logs" / "ray").glob("worker-*.err")]
        for path in paths:
            for line in path.read_text(errors="replace").splitlines():
                if text := _complaint(line):
                    counts["".join("#" if c.isdigit() else c for c in text)] += 1
        return dict(counts.most_common())


def _complaint(line: str) -> str:
    """The essence of a record that is a warning or worse, else nothing."""
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return ""  # Ray's own words
    if not isinstance(entry, dict) or entry.get("level") not in ("warning", "error"):
        return ""
    # A traceback's last line says most.
    cause = str(entry.get("exception", "")).strip().rpartition("\n")[2]
    return f"{str(entry.get('message'))[:90]} {cause[:90]}".strip()
