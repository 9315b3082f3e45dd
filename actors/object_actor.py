"""The Ray actor around a host: what Ray calls, and nothing of what is said.

Its process is the object's (or the pool's) for good and ends with it. Ray reaches it by
name for control calls alone; gateways link to the address that it gives.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import msgspec
import ray

from actors.host import Host
from actors.host_settings import HostSettings
from actors.leaving import Door
from cfmessenger.log_format import configure
from cfmessenger.memory import settled
from cfmessenger.placement import Placement, is_pool
from cfmessenger.storage.log import ValkeyLog

logger = logging.getLogger("cfmessenger.host")

_encode = msgspec.msgpack.Encoder().encode


class ObjectActor:
    """The Ray actor around a host. Its methods are control calls, never messages.

    Undecorated, so that it can be made without Ray; `RayDriver` wraps it.
    """

    def __init__(self, settings: bytes, log_level: str) -> None:
        configure(log_level, "json")
        self._settings = msgspec.msgpack.decode(settings, type=HostSettings)
        self._placement = placement_of(self._settings.actor or "")
        # All from the first `address` on, on Ray's loop for this actor.
        self._host: Host | None = None
        self._door: Door | None = None
        self._starting: asyncio.Lock | None = None

    async def address(self) -> bytes:
        """Where to link to, as msgpack of an `Address`; empty when it is leaving.

        Starts the host the first time.
        """
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._host is None:
                # Loopback where Ray is on loopback (`up`), else what gateways of
                # other nodes can reach.
                listen = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
                settings = msgspec.structs.replace(self._here(), listen=listen)
                host = Host(settings, self._ended)
                try:
                    await host.start()
                except BaseException:
                    await host.close()
                    raise
                self._host = host
                await self._open_door()
                settled()
        if self._host.leaving:
            return b""
        context = ray.get_runtime_context()
        found = self._host.address(context.get_actor_id() or "")
        return _encode(msgspec.structs.replace(found, node=context.get_node_id()))

    async def prove(self) -> bytes:
        """As `address`, once storage is seen to take what is written from here."""
        log = ValkeyLog(self._here().valkey_url, 0)
        try:
            await log.writable()
        finally:
            log.close()
        return await self.address()

    async def describe(self) -> bytes:
        """What lives here now, as msgpack of a list of `Described`."""
        found = self._host.describe(self._placement) if self._host else []
        node = ray.get_runtime_context().get_node_id()
        return _encode([msgspec.structs.replace(each, node=node) for each in found])

    async def place(self, placement: bytes) -> None:
        """Follow a new generation at once; it would be noticed half a second later."""
        if self._host is not None:
            self._host.place(msgspec.msgpack.decode(placement, type=Placement))

    async def drain(self) -> int:
        """Put what lives here to sleep; the process then ends by itself."""
        return await self._host.drain() if self._host else 0

    def _here(self) -> HostSettings:
        """With what is secret, which no constructor says. Raises `SettingsError`."""
        return self._settings.completed(os.environ)

    async def _open_door(self) -> None:
        node: Any = ray._private.worker._global_node
        self._door = Door(node.raylet_socket_name, self.drain)
        try:
            await self._door.open()
        except OSError as error:  # a full disk is no reason not to serve
            logger.warning("cannot be asked to leave: %s", error)

    def _ended(self, reason: str) -> None:
        if self._door is not None:
            self._door.close()
        # Not sys.exit: a Ray worker may hang in it, and everything is written already.
        os._exit(0)


def placement_of(actor: str) -> str:
    """How what lives in an actor of this name is placed: `pooled` or `dedicated`."""
    return "pooled" if is_pool(actor) else "dedicated"
