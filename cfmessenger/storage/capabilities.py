"""What the code of each process of a cluster is able to, as they tell each other.

Releases run beside each other for as long as one takes the other's place, so what all
must understand is begun only once all of them do. Nodes say what they know where they
say that they are there (members.py); a gateway says it in a field of its own. Whoever
says nothing is of a release from before there was anything to say. An actor's process
is of the release of its node, which has ended all of an older one.

Must not decide what a capability is good for.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cfmessenger import __version__
from cfmessenger.storage import keys
from cfmessenger.storage.members import Members
from cfmessenger.storage.valkey import Command, Valkey

HANDOVER = "handover"
"""Hosts let their objects go to another Ray cluster, one by one (design.md §13)."""

KNOWN = (HANDOVER,)
"""All that this code is able to. A name stays for ever, or means another capability to
an older release."""

SAID_FOR_S = 5
"""A gateway's word counts for so long."""


class Release(msgspec.Struct, frozen=True):
    """Of one process: its version, for people, and its capabilities."""

    release: str = ""
    knows: tuple[str, ...] = ()


OURS = Release(__version__, KNOWN)
OLDER = Release()
"""Of a process that says nothing."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Release).decode


class Running(NamedTuple):
    """Who is there, of which release: nodes by id, gateways by name."""

    nodes: dict[str, Release]
    gateways: dict[str, Release]

    def lacking(self, capability: str) -> list[str]:
        """Who does not know it, for people: empty once all do."""
        each = [("node", *row) for row in sorted(self.nodes.items())]
        each += [("gateway", *row) for row in sorted(self.gateways.items())]
        return [
            f"{kind} {name} ({of.release or 'an older release'})"
            for kind, name, of in each
            if capability not in of.knows
        ]


def said_by(gateway: str) -> Command:
    """The command by which a gateway says what it is able to."""
    field = ("EX", SAID_FOR_S, "FIELDS", 1, gateway, _encode(OURS))
    return ("HSETEX", keys.RELEASES, *field)


async def running(kv: Valkey) -> Running:
    """Everybody who is there now. Raises `Unavailable`."""
    nodes = await Members(kv).nodes()
    names = [name.decode() for name in await kv.ask("ZRANGE", keys.GATEWAYS, 0, -1)]
    said = await kv.ask("HMGET", keys.RELEASES, *names) if names else []
    return Running(
        {each.id: Release(each.release, each.knows) for each in nodes.values()},
        {name: _read(raw) for name, raw in zip(names, said, strict=True)},
    )


def _read(raw: bytes | None) -> Release:
    if raw is None:
        return OLDER
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return OLDER
