"""Watchers: what those who watch the registry are told, and when.

Owns wire.md §4's coalescing: changes within 50 ms travel together, so that a storm of
joins costs each gateway one message and not one for every other socket. What a socket
asks for, its first full sync too, is answered with the next tick, and a notification
that is meant for a new one waits behind that. Must not know why somebody is shown so.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from ..wire.protocol import Participant
from .effects import Effect, Send
from .interests import Interests

COALESCE_MS = 50
RETURN_MS = 500
"""After a crash the first tick is so late: by then the gateways are back, and nobody
seems to have left meanwhile."""

Visible = Callable[[str], Participant | None]
"""How a user is to be shown now; None: not at all."""


class Watchers:
    """`due`: the next tick, in ms; None: there is none."""

    def __init__(self, interests: Interests, crashed: bool) -> None:
        self.interests = interests
        # By user: what was told last; and who may differ from that, until the next
        # tick.
        self.shown: dict[str, Participant] = {}
        self.changed: dict[str, None] = {}
        # Until the next tick: sockets that wait for their full sync, and the frames
        # that wait behind it, by connection.
        self.untold: dict[str, None] = {}
        self._held: list[tuple[str, bytes]] = []
        self.due: int | None = None
        self._pause_ms = (
            RETURN_MS if crashed else COALESCE_MS
        )  # from a tick to the next

    def change(self, now: int, *user_ids: str) -> None:
        """These may have to be shown otherwise, or no more."""
        self.changed |= dict.fromkeys(user_ids)
        self.tick_soon(now)

    def sync_soon(self, now: int, conn: str) -> None:
        """This socket is new."""
        self.untold[conn] = None
        self.tick_soon(now)

    def hold(self, conn: str, frame: bytes) -> None:
        """This is for a socket that waits, and comes behind its sync."""
        self._held.append((conn, frame))

    def forget(self, conn: str) -> None:
        """This socket is gone."""
        self.untold.pop(conn, None)

    def tick_soon(self, now: int) -> None:
        """There is something to tell."""
        if self.due is None:
            self.due = now + self._pause_ms

    def alarm(
        self, now: int, visible: Visible, guests: Collection[str]
    ) -> list[Effect]:
        """Tell the changes, if it is time. `guests`: whom guests show."""
        if self.due is None or self.due > now:
            return []
        self.due, self._pause_ms = None, COALESCE_MS
        effects: list[Effect] = []
        effects += self.interests.news(self.shown, self._changes(visible), guests)
        held = [(c, frame) for c, frame in self._held if c in self.untold]
        effects += [Send((conn,), frame) for conn, frame in held]
        self.untold.clear()
        self._held.clear()
        return effects

    def _changes(self, visible: Visible) -> dict[str, Participant | None]:
        changes = {}
        for user_id in self.changed:
            before, after = self.shown.get(user_id), visible(user_id)
            if before == after:
                continue
            if after is None:
                del self.shown[user_id]
            else:
                self.shown[user_id] = after
            changes[user_id] = after
        self.changed.clear()
        return changes

    # Sleep and wake.

    def crashed(self, known: Iterable[str]) -> None:
        """Nobody is watching yet; these are to be shown as soon as anybody does."""
        self.changed = dict.fromkeys(known)

    def restore(
        self,
        shown: Sequence[Participant],
        changed: Iterable[str],
        due: int | None,
        there: Iterable[str],
    ) -> None:
        """As they were; who was shown and is not `there` any more leaves at once."""
        self.shown = {each.id: each for each in shown}
        self.changed = dict.fromkeys(changed)
        self.due = due
        known = set(there)
        if strays := [user_id for user_id in self.shown if user_id not in known]:
            self.changed |= dict.fromkeys(strays)
            self.due = due or 0
