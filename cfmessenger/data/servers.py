"""Which of PostgreSQL's servers takes what is written: a primary and its standbys.

A URL may name several, as `libpq` has it (`postgresql://h1,h2/db`). They are tried one
after the other, that which was the primary last first, and one that takes no writes is
none of ours: so a promotion is followed by whoever connects next. A connection whose
server has become read-only, or does not acknowledge what it is sent, is dropped. Must
not repeat a statement: who sent it knows whether that is safe (`transactions.py`).
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_S = 1.0
"""For one of several servers, so that one that is silent does not use up the time."""
UNACKNOWLEDGED_MS = 2000
"""A machine that vanished refuses nothing: what it has not acknowledged by then (TCP)
ends its connections, and not only the wait of whoever used them."""

WRITABLE = "read-write"
_SAME = (WRITABLE, "primary", "any")
_READ_ONLY = "25006"  # SQLSTATE read_only_sql_transaction


class NoServer(ConnectionError):
    """None of them takes writes now; nothing was sent."""


def hosts_of(url: str) -> list[tuple[str, str]]:
    """Host and port of each server that a URL names; empty where there is only one.

    The port is "" where the URL has none. Raises ValueError for a URL that wants
    something else than a server to write to.
    """
    parts = urlsplit(url)
    said = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    wanted = said.get("target_session_attrs", WRITABLE)
    if wanted not in _SAME:
        raise ValueError(f"target_session_attrs has to be {WRITABLE}: we write")
    listed = parts.netloc.rpartition("@")[2] or said.get("host", "")
    if "," not in listed:
        return []
    ports = said.get("port", "").split(",")
    hosts = listed.split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts) or not all(hosts):
        raise ValueError("expected as many ports as hosts, or one port, or none")
    return [_host(each, port) for each, port in zip(hosts, ports, strict=True)]


def _host(listed: str, port: str) -> tuple[str, str]:
    if listed.startswith("/"):  # a folder with a Unix socket
        return listed, port
    host, colon, own = listed.rpartition(":")
    if colon and own.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), own
    return listed.strip("[]"), port


class Servers:
    """Those of one URL. Raises ValueError for one that cannot be meant."""

    def __init__(self, url: str) -> None:
        self._url = url
        # In the order in which they are tried: the primary, as last known, first.
        self._hosts = hosts_of(url)

    async def connect(self, timeout_s: float, command_timeout_s: float) -> Any:
        """A connection to the one that takes writes. Raises `NoServer`."""
        import asyncpg  # type: ignore[import-untyped]  # heavy; SQLite needs none of it

        options: dict[str, Any] = {
            "command_timeout": command_timeout_s,
            "server_settings": {"application_name": "cfmessenger"},
            "target_session_attrs": WRITABLE,
        }
        failures = (
            *(asyncpg.PostgresError, asyncpg.InterfaceError),
            *(asyncpg.InternalClientError, OSError),  # and so TimeoutError
        )
        if not self._hosts:
            try:
                made = await asyncpg.connect(self._url, timeout=timeout_s, **options)
            except failures as error:
                raise NoServer("PostgreSQL refused us") from error
            return _watched(made)
        why: list[Exception] = []
        for at in list(self._hosts):
            host, port = at
            options["timeout"] = min(timeout_s, CONNECT_S)
            try:
                made = await asyncpg.connect(
                    self._url, host=host, port=int(port or 5432), **options
                )
            except failures as error:
                why.append(error)
                continue
            self._hosts.sort(key=lambda each: each != at)  # stable: the rest stays
            return _watched(made)
        said = ", ".join(
            f"{host}: {str(error) or type(error).__name__}"
            for (host, _), error in zip(self._hosts, why, strict=False)
        )
        raise NoServer(f"no server takes writes ({said})")


def _watched(connection: Any) -> Any:
    line = connection._transport.get_extra_info("socket")
    if line is not None and line.family != socket.AF_UNIX:
        option = socket.TCP_USER_TIMEOUT if hasattr(socket, "TCP_USER_TIMEOUT") else 0
        if option:  # Linux
            line.setsockopt(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_MS)
    return connection


def follow(made: AsyncEngine) -> None:
    """This engine's connections to a server that became read-only are dropped, all of
    them, whether that is seen before a statement or in the answer to one."""

    @event.listens_for(made.sync_engine, "checkout")
    def still_writable(connection: Any, _record: Any, _fairy: Any) -> None:
        # The server says of itself when these change (PostgreSQL 14); what it has said
        # came with the answer to the ping before.
        said = connection.driver_connection.get_settings()
        names = ("in_hot_standby", "default_transaction_read_only")
        if any(getattr(said, name, "off") == "on" for name in names):
            raise InvalidatePoolError("the server takes no writes any more")

    @event.listens_for(made.sync_engine, "handle_error")
    def read_only(context: Any) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True
