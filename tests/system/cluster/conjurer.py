"""A namespace server that makes actors with settings of a test's own.

Run as a program beside the ordinary one, on the same Ray: the actor of a name is made
by whoever asks first, so a test asks here for one that dies at a point, looks at Valkey
through a proxy, or may not sleep, and the gateways then find it under its name. What is
made after it, they make themselves, with the cluster's settings.

`hint` is what to do, as JSON: `{"settings": {...}}` for fields of `HostSettings`, or
`{"block": seconds}` to block the event loop of the actor there is.
"""

import asyncio
import os
import time
from typing import Any

import msgspec
import ray

from actors.host_settings import HostSettings
from actors.namespace_server import NamespaceServer
from actors.object_actor import ObjectActor
from actors.ray_driver import RAY_NAMESPACE, RayDriver
from actors.ray_namespace import RayNamespace
from cfmessenger import log_format
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Placement
from cfmessenger.settings import Settings


class Blockable(ObjectActor):
    """The product's actor, with a handler that does what no handler may do, and at the
    Valkey that it was told of, if it was."""

    def _here(self) -> HostSettings:
        found = super()._here()
        url = self._settings.valkey_url or found.valkey_url
        return msgspec.structs.replace(found, valkey_url=url)

    def block(self, seconds: float) -> None:
        """Ray runs a plain method of an async actor on its loop."""
        time.sleep(seconds)


class Telling(RayNamespace):
    """Tells an actor all, a Valkey of its own too."""

    def _settings_of(self, actor: str) -> bytes:
        return msgspec.msgpack.encode(self._settings.for_actor(actor, Placement()))


class Conjurer:
    """`Namespace` whose hints are orders."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        orders: dict[str, Any] = msgspec.json.decode(hint or "{}")
        if "block" in orders:
            actor = await asyncio.to_thread(ray.get_actor, name, RAY_NAMESPACE)
            actor.block.remote(orders["block"])
        settings = msgspec.structs.replace(self._settings, **orders.get("settings", {}))
        namespace = Telling(settings, "info", actor_class=Blockable)
        return await namespace.resolve(name)

    async def kill(self, name: str, actor_id: str) -> bool:
        raise NotImplementedError

    async def describe(self) -> list[Described]:
        """Ray's living nodes, instead of objects."""
        nodes = await asyncio.to_thread(ray.nodes)
        return [Described(each["NodeID"], "node", 0) for each in nodes if each["Alive"]]

    async def wakes(self) -> None:
        """Nobody asks."""

    async def ping(self) -> bool:
        return True


async def main() -> None:
    settings = HostSettings.of(Settings.load(os.environ))
    server = NamespaceServer(Conjurer(settings), os.environ["CFMX_NAMESPACE"])
    await server.start()
    os.write(int(os.environ["CFMX_READY_FD"]), b"ready\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    log_format.configure("info", "console")
    RayDriver.connect(os.environ["CFMX_RAY_ADDRESS"])
    asyncio.run(main())
