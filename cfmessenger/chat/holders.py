"""Holders: the gateways that hold, or may hold, sockets of one object.

Owns what an object remembers of them over its sleep: whose sockets are in its roster,
who is not back yet, and who slept through with it and so has missed nothing. Must not
know what anybody is told.
"""

from collections.abc import Iterable


class Holders:
    """The gateways of one object, by name."""

    def __init__(self) -> None:
        # From their attach, or remembered from a final mirror, until each is dead.
        self.gateways: set[str] = set()
        # Those that the mirror names, from the restore until `give_up`; without the
        # dead.
        self.absent: set[str] = set()
        # From a clean wake until each attaches, has missed something, or is dead.
        self._dormant: set[str] = set()

    @property
    def awaited(self) -> bool:
        """Somebody is still to say which sockets it holds here: after a crash, until
        each of the mirror's gateways has come, is dead, or is given up."""
        return not self.absent <= self.gateways

    def attach(self, gateway: str) -> bool:
        """It tells what it holds. True: it slept through, and has missed nothing."""
        self.gateways.add(gateway)
        slept = gateway in self._dormant
        self._dormant.discard(gateway)
        return slept

    def missed(self, gateway: str) -> None:
        """It did not hear the goodbye of the life before."""
        self._dormant.discard(gateway)

    def told(self) -> None:
        """Everybody here was told something: who comes later missed it."""
        self._dormant.clear()

    def detach(self, gateway: str) -> None:
        """It is dead."""
        self.gateways.discard(gateway)
        self.absent.discard(gateway)
        self._dormant.discard(gateway)

    def give_up(self) -> None:
        """Who has not come by now is not awaited any longer."""
        self.absent.clear()

    def snapshot(self) -> list[str]:
        """For `restore`."""
        return sorted(self.gateways)

    def restore(self, gateways: Iterable[str], clean: bool) -> None:
        """Those of a mirror; what is not `clean` says only who may come back."""
        self.absent = set(gateways)
        if clean:
            self.gateways = set(gateways)
            self._dormant = set(gateways)
