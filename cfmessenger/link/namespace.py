"""The namespace: from an object's name to the actor process it lives in.

Owns the port that gateways call and its client (how that reaches a server: `calls`);
the server is `actors.namespace_server`, beside the node's one Ray driver. A name gives
an address whether or not the object is awake: asking is what wakes it. Every answer may
be stale by the time it is used, so callers resolve again when a link breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from cfmessenger.errors import Unavailable
from cfmessenger.link.calls import PING_EVERY_S, Caller, Find
from cfmessenger.placement import Mode, Placement, is_pool
from cfmessenger.tls import Trust

RESOLVE_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 60.0
MOVED = "moved"
PAGE = 1000
"""Rows of a description in one answer, which must stay below `calls.MAX_FRAME`."""


class Address(msgspec.Struct, frozen=True):
    """An actor process: where its link server listens, the key, and who it is.

    `generation`: the number of the placement that led there; whoever knows an older one
    asks for it. `version`: the newest of the link that it speaks; who says none, or is
    told of by a server of the release before, is taken for one of that.
    """

    host: str
    port: int
    key: str
    actor_id: str
    pid: int
    actor: str = ""
    generation: int = 0
    node: str = ""  # where it lives; empty: nobody said
    version: int = 5

    @property
    def pooled(self) -> bool:
        """Many objects live there, and end with it."""
        return is_pool(self.actor)


class Described(msgspec.Struct, frozen=True):
    """One live object, for people: `cfmessenger rooms`."""

    name: str
    placement: str
    pid: int
    epoch: int = 0
    seq: int = 0
    sockets: int = 0
    state: str = "running"
    actor: str = ""
    load: float = 0.0  # share of its process's time, over the last seconds
    why: str = ""  # the reason of a room's exception; empty: it is none
    since: int = 0  # ms since 1970, of `why`
    node: str = ""  # where it lives; empty: nobody said


class Namespace(Protocol):
    """Names to actors. Every method may raise `Unavailable`."""

    @property
    def unreachable_since(self) -> float | None:
        """Loop time since when nobody answers, whatever he says; None: one does."""

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        """Get or create the actor of this name. `hint`: location, first time only;
        `moved`: a host has said so, so what is known of the placement is too old;
        `lost`: the id of an actor that could not be linked to, or whose link went
        silent, which is evidence that it is gone.

        Raises `Unavailable` AT_CAPACITY when no more actors may be made.
        """

    async def kill(self, actor: str, actor_id: str) -> bool:
        """End this very actor, if it is hung; never one that replaced it."""

    async def describe(self) -> list[Described]:
        """What is awake now, by name."""

    async def stored(self) -> bool:
        """Whether storage would take an append of the namespace's."""

    async def drain(self) -> int:
        """Have the objects of the server's node go to sleep, and none come there; how
        many actors are left."""

    async def ping(self) -> bool:
        """Whether names can be resolved now."""

    async def wakes(self) -> None:
        """Raises `Unavailable`, with the reason, unless a sleeping object could wake.

        Answers at once with what was found out in the last seconds.
        """

    async def placement(self) -> Placement:
        """The present generation."""

    async def place(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation: what is to live elsewhere moves there."""

    async def pin(self, name: str) -> Placement:
        """Give a room a named actor of its own, until it is unpinned."""

    async def unpin(self, name: str) -> Placement:
        """Let a room live where its load puts it."""


class NamespaceClient:
    """`Namespace` at whichever of several servers answers.

    `find` is asked each time one is to be dialled; `unix:<path>`, `tcp://host:port` or
    several of them may stand for it. All verbs may be asked twice, and are when a
    connection breaks: to get or create, or to end what has ended, changes nothing the
    second time, and a placement that is as it should be begins no new generation.
    """

    def __init__(
        self,
        find: Find | Sequence[str],
        key: str = "",
        *,
        trust: Trust | None = None,
        ping_every_s: float = PING_EVERY_S,
    ) -> None:
        self._caller = Caller(_finding(find), key, ping_every_s, trust)
        self._call = self._caller.call
        self.close = self._caller.close

    @property
    def unreachable_since(self) -> float | None:
        return self._caller.unreachable_since

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        # What an older server does not know stands last, and it takes no notice. With
        # both it does not notice `moved` either, and learns of that by itself.
        more = [MOVED if moved else None, lost or None]
        while more and more[-1] is None:
            more.pop()
        args = [name, hint, *more]
        raw = await self._call("resolve", args, RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Address)

    async def kill(self, actor: str, actor_id: str) -> bool:
        raw = await self._call("kill", [actor, actor_id], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=bool)

    async def describe(self) -> list[Described]:
        """As the port says, however many they are; from an older server what fits into
        one answer."""
        try:
            found = page = await self._rows("", str(PAGE))
        except Unavailable:
            return await self._rows()
        while page:
            page = await self._rows(found[-1].name, str(PAGE))
            found = found + page
        return found

    async def _rows(self, *args: str) -> list[Described]:
        raw = await self._call("describe", [*args], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=list[Described])

    async def stored(self) -> bool:
        raw = await self._call("storage", [], 2.0)
        return msgspec.msgpack.decode(raw, type=bool)

    async def drain(self) -> int:
        raw = await self._call("drain", [], DRAIN_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=int)

    async def ping(self) -> bool:
        """Whether the namespace server, and the Ray behind it, answer."""
        raw = await self._call("ping", [], 2.0)
        return msgspec.msgpack.decode(raw, type=bool)

    async def wakes(self) -> None:
        await self._call("wakes", [], 2.0)

    async def placement(self) -> Placement:
        raw = await self._call("placement", [], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def place(self, mode: Mode, size: int) -> Placement:
        raw = await self._call("place", [mode, str(size)], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def pin(self, name: str) -> Placement:
        raw = await self._call("pin", [name], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def unpin(self, name: str) -> Placement:
        raw = await self._call("unpin", [name], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)


def _finding(find: Find | Sequence[str]) -> Find:
    if callable(find):
        return find
    known = (find,) if isinstance(find, str) else tuple(find)

    async def found() -> Sequence[str]:
        return known

    return found
