"""Publications: whom guests want shown as online beside the people.

Owns that each guest speaks for its own alone: what it publishes takes the place of what
it published before, and of nothing else. They come and go like people, but hold no
socket. Must not know any guest, nor who is told.
"""

from collections.abc import Collection, Iterable, Mapping

from ..wire.protocol import Participant
from .effects import Published


class Publications:
    """By guest and id, until the guest publishes others."""

    def __init__(self) -> None:
        self._by_source: dict[str, dict[str, Participant]] = {}

    def publish(self, told: Published) -> list[str]:
        """Take a guest's word. Returns the ids that may be shown otherwise now."""
        before = self._by_source.get(told.source, {})
        after = {each.id: each for each in told.shown}
        if after == before:
            return []
        self._by_source[told.source] = after
        return [*before, *after]

    def find(self, user_id: str) -> Participant | None:
        """How somebody is shown, if a guest shows them."""
        for shown in self._by_source.values():
            if user_id in shown:
                return shown[user_id]
        return None

    @property
    def ids(self) -> list[str]:
        """Everybody whom a guest shows."""
        return [each for shown in self._by_source.values() for each in shown]

    def snapshot(self) -> dict[str, list[Participant]]:
        """For `restore`."""
        return {name: list(s.values()) for name, s in self._by_source.items()}

    def restore(
        self, saved: Mapping[str, Iterable[Participant]], sources: Collection[str]
    ) -> None:
        """As they were, also after a crash. Of guests that are not among `sources`
        nobody would send away whom they had shown, so these are left out."""
        self._by_source = {
            source: {each.id: each for each in shown}
            for source, shown in saved.items()
            if source in sources
        }
