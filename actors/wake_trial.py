"""What a wake needs, looked at; and a wake itself, tried: for `WakeProof`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
from ray.exceptions import RayError

from actors.ray_driver import RayDriver, future, outcomes
from actors.warm_pool import WarmPool
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.greeting import NONCE_BYTES, Asking, Refusal
from cfmessenger.link.namespace import Address
from cfmessenger.link.secured import open_stream
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.tls import Trust

FILL_S = 3.0
SOCKET_TIMEOUT_S = 1.0
WAKE_TIMEOUT_S = 8.0
GREET_TIMEOUT_S = 2.0
END_TIMEOUT_S = 1.0


class WakeTrial:
    """`front` is where gateways reach the server of this namespace; empty: nowhere.
    `arguments`: what an actor for no object is made with."""

    def __init__(
        self,
        driver: RayDriver,
        warm: WarmPool,
        valkey_url: str,
        front: str,
        arguments: Callable[[], tuple[bytes, str]],
        trust: Trust | None = None,
    ) -> None:
        self._trust = trust
        self._driver = driver
        self._warm = warm
        self._valkey_url = valkey_url
        self._front = front
        self._arguments = arguments
        self._filled = False  # true once the first look has waited for warm workers

    async def look(self) -> None:
        """Everything that a new process connects to takes new connections, and storage
        takes writes. Raises `Unavailable`."""
        if not self._filled:
            # Clients come as soon as all is said to be ready: by then the start of the
            # workers must not take the machine.
            await self._warm.full(FILL_S)
            self._filled = True
        raylet, store = await self._driver.sockets()
        for url in filter(None, (self._front, raylet)):
            try:
                async with asyncio.timeout(SOCKET_TIMEOUT_S):
                    (await open_stream(url))[1].close()
            except (OSError, TimeoutError) as error:
                raise Unavailable(message=f"No connection to {url}.") from error
        # To connect would make it log a warning each time.
        if store and not await asyncio.to_thread(Path(store).is_socket):
            raise Unavailable(message=f"There is no socket {store}.")
        storage = ValkeyLog(self._valkey_url, 0)
        try:
            await storage.writable()
        finally:
            storage.close()

    async def wake(self) -> None:
        """A new process gets as far as to answer a gateway; then it ends. Raises
        `Unavailable`."""
        with self._warm.creation():
            actor = await self._driver.make_nameless(*self._arguments())
            try:
                async with asyncio.timeout(WAKE_TIMEOUT_S):
                    raw = await future(actor.prove.remote())
                    at = msgspec.msgpack.decode(raw, type=Address)
                    await greet(at, self._trust)
            except (RayError, TimeoutError) as error:
                await self._driver.end_nameless(actor)
                raise Unavailable(message="A new actor does not start.") from error
            # It may be gone before it says so.
            await outcomes([future(actor.drain.remote())], END_TIMEOUT_S)


async def greet(at: Address, trust: Trust | None = None) -> None:
    """Link to an actor process as a gateway does. Raises `Unavailable`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    url = (
        f"tcp://[{at.host}]:{at.port}"
        if ":" in at.host
        else f"tcp://{at.host}:{at.port}"
    )
    try:
        greeting = Asking(at.key, "probe", nonce, at.version, trust is not None)
        async with asyncio.timeout(GREET_TIMEOUT_S):
            stream, writer = await open_stream(url, trust)
            try:
                writer.write(link.frame(greeting.hello))
                messages = link.gateway_reader()
                while data := await stream.read(4096):
                    for message in messages.feed(data):
                        if isinstance(message, link.Welcome):
                            greeting.welcomed(message)
                            return
            finally:
                writer.close()
    except (OSError, TimeoutError, link.BrokenLink) as error:
        raise Unavailable(message="A new actor cannot be reached.") from error
    except Refusal as refusal:
        raise Unavailable(message=f"A new actor is not greeted: {refusal}.") from None
    raise Unavailable(message="A new actor does not greet.")
