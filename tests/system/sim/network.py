"""The network: streams of bytes between processes, with everything that befalls them.

Bytes arrive in order, late, and in pieces cut anywhere. A direction can be stalled by a
partition and goes on when it heals; a connection can break, and then what was under way
arrives up to any byte, or whole, and each end learns of it in its own time. A process
that dies takes its connections along; one that is frozen does not read, though its
connections stand.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from tests.system.sim.sim_loop import Process, SimLoop

_MADE, _EOF, _LOST = "made", "eof", "lost"
SLOW = 0.03
"""How many of a hundred hops take as long as `Network.spikes_s`."""


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: Network, source: Process, end: SimTransport) -> None:
        self._network = network
        self._end = end
        self._source = source
        self._queue: deque[tuple[float, bytes | str]] = deque()
        self._last = 0.0
        self._moving = False

    def push(self, item: bytes | str) -> None:
        network = self._network
        self._last = max(self._last, network.loop.time() + network.latency())
        self._queue.append((self._last, item))
        if not self._moving:
            self.go_on()

    def go_on(self) -> None:
        """The next piece is on its way."""
        self._moving = bool(self._queue)
        if self._moving:
            self._network.loop.call_at(
                self._queue[0][0], self._arrive, context=self._end.process.context
            )

    def _arrive(self) -> None:
        if self._network.blocked(self._source, self._end.process):
            self._network.stalled.append(self)
            return
        self._moving = False
        if not self._queue:
            return
        _, item = self._queue.popleft()
        self.go_on()
        self._end.arrived(item)

    def stall(self, seconds: float) -> None:
        """What is sent from now on is late, as when packets are lost."""
        self._last = max(self._last, self._network.loop.time() + seconds)

    def cut(self, rng: Random) -> None:
        """Lose what is under way from some byte on."""
        keep = rng.randrange(len(self._queue) + 1)
        kept = [self._queue[i] for i in range(keep)]
        if kept and isinstance(kept[-1][1], bytes):
            at, data = kept[-1]
            kept[-1] = (at, data[: rng.randrange(len(data) + 1)])  # type: ignore[index]
        self._queue = deque(kept)


class SimTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, process: Process, protocol: Any) -> None:
        super().__init__()
        self.process = process
        self.protocol = protocol
        self.peer: SimTransport
        self.out: Pipe
        self._network = network
        self._closing = False
        self._lost = False

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None: ...

    def write(self, data: Any) -> None:
        if self._closing or not self.process.alive:
            return
        for piece in self._network.pieces(bytes(data)):
            self.out.push(piece)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and self.process.alive:
            self.out.push(_EOF)

    def close(self) -> None:
        self._end(flush=True)

    def abort(self) -> None:
        self._end(flush=False)

    def _end(self, flush: bool) -> None:
        if self._closing or not self.process.alive:
            return
        self._closing = True
        # A closed socket's last bytes are still sent by the kernel, mostly.
        if not flush and self._network.rng.random() < 0.3:
            self.out.cut(self._network.rng)
        self.out.push(_LOST)
        self._network.loop.call_soon(self._lose, None, context=self.process.context)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._network.forget(self)
            self.protocol.connection_lost(error)

    def arrived(self, item: bytes | str) -> None:
        if item == _MADE:
            self.protocol.connection_made(self)
        elif self._lost:
            return
        elif item == _LOST:
            self._lose(ConnectionResetError("reset"))
        elif self._closing:
            return
        elif item == _EOF:
            if not self.protocol.eof_received():
                self.close()
        else:
            self.protocol.data_received(item)

    def break_off(self) -> None:
        """The connection breaks here; the other end hears of it later."""
        self.out.cut(self._network.rng)
        self.out.push(_LOST)


class _Server:
    """What `create_server` returns."""

    def __init__(self, network: Network, address: tuple[str, int]) -> None:
        self._network, self._address = network, address
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self._address

    async def start_serving(self) -> None:
        pass  # nobody is told the address before

    def close(self) -> None:
        self._network.listening.pop(self._address, None)


class Network:
    """All connections. `spikes_s`: how late a late piece can be."""

    def __init__(self, loop: SimLoop, rng: Random) -> None:
        self.loop = loop
        self.rng = rng
        self.base_s = 0.001
        self.spikes_s = 0.2
        self.listening: dict[tuple[str, int], tuple[Process, Callable[[], Any]]] = {}
        self.stalled: list[Pipe] = []
        self.ends: dict[SimTransport, None] = {}
        self._blocked: set[tuple[int, int]] = set()
        self._ports = 0
        loop.network = self

    def latency(self) -> float:
        draw = self.rng.random()
        if draw < SLOW:
            return draw / SLOW * self.spikes_s
        return draw * self.base_s

    def pieces(self, data: bytes) -> list[bytes]:
        """How a write happens to be cut on its way."""
        if len(data) < 2 or self.rng.random() > 0.1:
            return [data] if data else []
        at = self.rng.randrange(1, len(data))
        return [data[:at], data[at:]]

    # Connections.

    def listen(
        self, process: Process, factory: Callable[[], Any], host: str, port: int
    ) -> _Server:
        if not port:
            self._ports += 1
            port = self._ports
        self.listening[host, port] = process, factory
        return _Server(self, (host, port))

    async def connect(
        self, process: Process, factory: Callable[[], Any], address: tuple[str, int]
    ) -> tuple[SimTransport, Any]:
        await asyncio.sleep(2 * self.latency())
        found = self.listening.get(address)
        while found is not None and self.blocked(process, found[0]):
            await asyncio.sleep(0.1)
            found = self.listening.get(address)
        if found is None or not found[0].alive:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        server, accept = found
        near = SimTransport(self, process, factory())
        far = SimTransport(self, server, server.run(accept))
        near.peer, far.peer = far, near
        near.out = Pipe(self, process, far)
        far.out = Pipe(self, server, near)
        self.ends[near] = self.ends[far] = None
        near.out.push(_MADE)
        near.protocol.connection_made(near)
        return near, near.protocol

    def forget(self, end: SimTransport) -> None:
        self.ends.pop(end, None)

    # What goes wrong.

    def blocked(self, one: Process, other: Process) -> bool:
        """Whether nothing gets from one to the other now."""
        return bool(self._blocked) and (id(one), id(other)) in self._blocked

    def block(self, one: Process, other: Process) -> None:
        self._blocked |= {(id(one), id(other)), (id(other), id(one))}

    def unblock(self, one: Process, other: Process) -> None:
        self._blocked -= {(id(one), id(other)), (id(other), id(one))}
        self._go_on()

    def heal(self) -> None:
        """No partition is left."""
        self._blocked.clear()
        self._go_on()

    def _go_on(self) -> None:
        stalled, self.stalled = self.stalled, []
        for pipe in stalled:
            pipe.go_on()

    def reset(self, end: SimTransport) -> None:
        """Break one connection: both ends hear of it, each in its time."""
        end.break_off()
        end.peer.break_off()

    def died(self, process: Process) -> None:
        """A process is dead: its kernel closes what it had open."""
        for address, (owner, _) in list(self.listening.items()):
            if owner is process:
                del self.listening[address]
        for end in [each for each in self.ends if each.process is process]:
            end.break_off()
            self.forget(end)
