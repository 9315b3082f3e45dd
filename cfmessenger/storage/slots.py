"""Which server of a Valkey Cluster has a key: slots, the map of them, redirections.

Pure: text and replies in, values out. A key's slot is CRC16 of what is in its first
braces, or of all of it; the map says which primary has a slot; and who asks the wrong
server is told so by an error that means that nothing was done.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

SLOTS = 16384


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Topology(NamedTuple):
    """Who has which slot. `owners`: a primary for each slot, None: nobody has it."""

    primaries: tuple[Address, ...]
    owners: tuple[Address | None, ...]

    def moved(self, slot: int, address: Address) -> Topology:
        """The same, and this slot is there."""
        known = address in self.primaries
        owners = (*self.owners[:slot], address, *self.owners[slot + 1 :])
        primaries = self.primaries if known else (*self.primaries, address)
        return Topology(primaries, owners)


class Redirect(NamedTuple):
    """Why a command was not done where it was sent.

    `moved`: `address` has the slot from now on. `ask`: it has this key already, and
    takes this one command after an ASKING. `later`: nobody takes it now.
    """

    kind: Literal["moved", "ask", "later"]
    slot: int = 0
    address: Address | None = None


def tagged(key: str) -> str:
    """What decides on the key's slot: what is in its first braces, if anything is."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if 0 <= start < end - 1 else key


def slot_of(key: str) -> int:
    """The key's slot, 0 to 16383."""
    return crc_hqx(tagged(key).encode(), 0) % SLOTS


def topology_of(reply: Any, asked: Address) -> Topology:
    """Read what CLUSTER SLOTS answered; a server that knows no name for itself is where
    it was asked. Raises ValueError for what cannot be understood, or names nobody."""
    owners: list[Address | None] = [None] * SLOTS
    primaries: dict[Address, None] = {}
    try:
        for first, last, primary, *_ in reply:
            address = _address(primary, asked)
            if not 0 <= first <= last < SLOTS:
                raise ValueError("no slots")
            if address is None:
                continue
            primaries[address] = None
            owners[first : last + 1] = [address] * (last + 1 - first)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError("CLUSTER SLOTS was answered with something else") from error
    if not primaries:
        raise ValueError("no server of the cluster has a slot")
    return Topology(tuple(primaries), tuple(owners))


def _address(server: Sequence[Any], asked: Address) -> Address | None:
    host = str(server[0] or b"", "utf-8")
    # "?": the server was told to announce a name and has none.
    return None if host == "?" else Address(host or asked.host, int(server[1]))


_LATER = ("TRYAGAIN", "CLUSTERDOWN", "LOADING")


def redirect_of(error: str, asked: Address) -> Redirect | None:
    """What an error reply of the server at `asked` says; None: it is about something
    else than where to go."""
    kind, _, rest = error.partition(" ")
    if kind in _LATER:
        return Redirect("later")
    if kind not in ("MOVED", "ASK"):
        return None
    slot, _, where = rest.partition(" ")
    host, _, port = where.rpartition(":")
    if not (slot.isdecimal() and int(slot) < SLOTS and port.isdecimal()):
        return None
    address = Address(host.strip("[]") or asked.host, int(port))
    return Redirect("moved" if kind == "MOVED" else "ask", int(slot), address)


_NO_KEY = ("PUBLISH", "TIME", "PING", "INFO")


def keys_of(command: Sequence[Any]) -> tuple[str, ...]:
    """The keys of a command that may stand in a MULTI. PUBLISH has none: every server
    passes it on to all."""
    name = command[0]
    if name in _NO_KEY:
        return ()
    if name in ("DEL", "EXISTS"):
        return tuple(map(str, command[1:]))
    if name == "RENAME":
        return str(command[1]), str(command[2])
    return (str(command[2 if name == "XINFO" else 1]),)


def common_slot(key: str, commands: Sequence[Sequence[Any]]) -> int:
    """The one slot of `key` and all keys of these commands. Raises ValueError if there
    is another; no key is repeated, as it may name a token."""
    slot = slot_of(key)
    for command in commands:
        if any(slot_of(each) != slot for each in keys_of(command)):
            raise ValueError(f"a MULTI has keys in several slots: {command[0]}")
    return slot
