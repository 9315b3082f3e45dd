"""What every place of a world holds about everybody: read for the checker.

Only who is awake holds anything; what a sleeping room shows when it wakes, its sockets
are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.system.sim.history import Shown

if TYPE_CHECKING:
    from tests.system.sim.processes import GatewayProcess, HostProcess
    from tests.system.sim.world import World


def shown(world: World) -> Iterator[Shown]:
    """Of everybody, from every place; the row first, which is the truth."""
    for user, words in world.rows.words.items():
        yield Shown(user, "words", "the row", words[:2])
    for host in world.namespace.living:
        yield from _of_objects(host)
    for gateway in world.living_gateways:
        yield from _of_gateway(gateway)


def _of_objects(process: HostProcess) -> Iterator[Shown]:
    """Rooms and the registry."""
    for activation in process.host.objects.values() if process.host else ():
        roster = getattr(activation._flow.machine, "_roster", ())
        if activation.awake:
            for person in roster:
                yield from _both(activation.name, person)


def _of_gateway(process: GatewayProcess) -> Iterator[Shown]:
    """Its copy of the rows, its sockets, and what it would attach them with."""
    name, sockets = process.name, process.sockets
    if sockets is None:
        return
    for who in process.directory:
        words = who.display_name, who.personal_message
        yield Shown(who.id, "words", f"the directory of {name}", words)
    for connection in sockets.connections.by_id.values():
        yield from _both(f"socket {connection.conn}", connection.attachment)
    for stub in sockets.stubs.by_name.values():
        for conn, attachment in stub._audience.held.items():
            if conn in sockets.connections.by_id:
                yield from _both(f"{name} for {stub.name}", attachment)


def _both(place: str, of: Any) -> Iterator[Shown]:
    words = of.display_name, of.personal_message
    yield Shown(of.user_id, "words", place, words)
    yield Shown(of.user_id, "status", place, of.status)
