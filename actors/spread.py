"""On which node a new actor is made: the one that has least (design.md §13).

Pure. A pool hosts many rooms and stays, so pools are counted for themselves: rooms are
spread evenly over pools, hence over nodes. All others count alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from cfmessenger.placement import is_pool


class Share(NamedTuple):
    """What lives on a node: pools, and actors of other kinds."""

    pools: int = 0
    others: int = 0


def shares(where: Mapping[str, str]) -> dict[str, Share]:
    """What lives on each node; `where`: actor → node."""
    found: dict[str, Share] = {}
    for actor, node in where.items():
        pools, others = found.get(node, Share())
        pool = is_pool(actor)
        found[node] = Share(pools + pool, others + (not pool))
    return found


def choose(actor: str, nodes: Iterable[str], share: Mapping[str, Share]) -> str | None:
    """The node for this actor; None: there is none. Which of equals is decided by its
    name, so that two who choose at once mostly do not both choose the same."""

    def cost(node: str) -> tuple[int, int, bytes]:
        pools, others = share.get(node, Share())
        first, second = (pools, others) if is_pool(actor) else (others, pools)
        tie = blake2b(f"{actor} {node}".encode(), digest_size=8).digest()
        return first, second, tie

    return min(nodes, key=cost, default=None)


def uneven(newest: str, nodes: Sequence[str], where: Mapping[str, str]) -> str | None:
    """A pool that should move to the node `newest`; None: it has its share.

    It has one fewer than another node at least after the move, so this ends.
    """
    share = shares(where)
    mine = share.get(newest, Share()).pools
    others = [each for each in nodes if each != newest]
    fullest = max(others, key=lambda n: share.get(n, Share()).pools, default=None)
    if fullest is None or share.get(fullest, Share()).pools - mine < 2:
        return None
    pools = [a for a, node in where.items() if node == fullest and is_pool(a)]
    return min(pools, key=lambda a: blake2b(f"{newest} {a}".encode()).digest())
