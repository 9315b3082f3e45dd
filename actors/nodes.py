"""The nodes on which an actor may be made, and which of them it is (design.md §13).

Those that are members, are not leaving and are not suspected; of these, those of its
location if there are any; of these, those that have been there for a while if there are
any; of these, the one that has least.
"""

from __future__ import annotations

from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import spread
from actors.location import LABEL, Location
from actors.membership import Membership
from actors.ray_driver import Cluster
from cfmessenger.errors import Unavailable


class Nodes:
    """`location` None: hints mean nothing; `membership` None: every node of Ray's."""

    def __init__(
        self, location: Location | None, membership: Membership | None
    ) -> None:
        self._location = location
        self._membership = membership
        # Where those actors went that Ray may not show yet: since it was last read.
        self._chosen: dict[str, str] = {}

    @property
    def strict(self) -> bool:
        """An object is rather nowhere than outside its location."""
        return self._location is not None and self._location.strict

    async def place(
        self, name: str, hint: str | None, cluster: Cluster
    ) -> tuple[str, dict[str, Any]]:
        """The node for a new actor, and Ray's options to make it there.

        Raises `Unavailable`, with strict locations `Nowhere`.
        """
        regions = {each["NodeID"]: each["Labels"].get(LABEL) for each in cluster.nodes}
        fit = self._fit(set(regions))
        if self._location is not None:
            there = {node: regions[node] for node in fit}
            fit = await self._location.among(name, hint, there)
        fit = self._settled(fit)
        self._chosen = {
            actor: node
            for actor, node in self._chosen.items()
            if actor in cluster.names and actor not in cluster.where
        }
        share = spread.shares(cluster.where | self._chosen)
        node = spread.choose(name, fit, share)
        if node is None:
            raise Unavailable(message="No node takes new rooms right now.")
        self._chosen[name] = node
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return node, {"scheduling_strategy": strategy}

    def _fit(self, alive: set[str]) -> list[str]:
        member = self._membership
        if member is None:
            return sorted(alive)
        there = {n for n, each in member.nodes.items() if each.state == "up"} & alive
        return sorted(there - member.suspects) or sorted(there)

    def _settled(self, fit: list[str]) -> list[str]:
        """Those of them that have not just come, or all if all have: these have no warm
        workers yet."""
        settled = self._membership.settled if self._membership is not None else fit
        return [node for node in fit if node in settled] or fit

    def chosen(self, actor: str) -> str | None:
        """Where an actor was to be made that Ray may not show yet; None: not from here,
        or Ray shows it."""
        return self._chosen.get(actor)

    def failed(self, node: str) -> None:
        """Nothing could be made there."""
        if self._membership is not None:
            self._membership.suspect(node)

    def left(self, node: str) -> bool:
        """It does not say any more that it is there, and others do."""
        member = self._membership
        return member is not None and bool(member.nodes) and node not in member.nodes
