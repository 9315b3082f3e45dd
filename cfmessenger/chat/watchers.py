"""Watchers: what the sockets that watch the registry are told, and when.

Owns wire.md §4's coalescing: changes within 50 ms travel together, so that a storm of
joins costs each socket one frame and not one for every other socket. A socket that is
new gets its full sync with the next tick, and what is meant for it alone waits behind
that. Must not know why somebody is shown so.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from ..wire import protocol
from ..wire.protocol import Participant, PresenceUpdate
from .effects import Broadcast, Effect, Send, Subscribe

COALESCE_MS = 50
BURST = 8
"""More changes than this travel as one partial full sync."""

Visible = Callable[[str], Participant | None]
"""How a user is to be shown now; None: not at all."""


class Watchers:
    """`due`: the next tick, in ms; None: there is none."""

    def __init__(self) -> None:
        # By user: what watchers were told last; and who may differ from that, until the
        # next tick.
        self.shown: dict[str, Participant] = {}
        self.changed: dict[str, None] = {}
        # Until the next tick: watchers that wait for their full sync, and the frames
        # that wait behind it, by connection.
        self.untold: dict[str, None] = {}
        self._held: list[tuple[str, bytes]] = []
        self.due: int | None = None

    def change(self, now: int, *user_ids: str) -> None:
        """These may have to be shown otherwise, or no more."""
        self.changed |= dict.fromkeys(user_ids)
        self._tick_soon(now)

    def sync_soon(self, now: int, conn: str) -> None:
        """This socket knows nothing yet, or has missed something."""
        self.untold[conn] = None
        self._tick_soon(now)

    def hold(self, conn: str, frame: bytes) -> None:
        """This is for a socket that waits, and comes behind its sync."""
        self._held.append((conn, frame))

    def forget(self, conn: str) -> None:
        """This socket is gone."""
        self.untold.pop(conn, None)

    def _tick_soon(self, now: int) -> None:
        if self.due is None:
            self.due = now + COALESCE_MS

    def alarm(self, now: int, visible: Visible) -> list[Effect]:
        """Tell the changes, if it is time; a `Broadcast` if there were any."""
        if self.due is None or self.due > now:
            return []
        self.due = None
        effects = self._tell_changes(visible)
        if self.untold:
            conns = tuple(self.untold)
            full = protocol.PresenceFullSync(list(self.shown.values()))
            effects += [Send(conns, protocol.encode(full)), Subscribe(conns)]
            held = [(c, frame) for c, frame in self._held if c in self.untold]
            effects += [Send((conn,), frame) for conn, frame in held]
            self.untold.clear()
        self._held.clear()
        return effects

    def _tell_changes(self, visible: Visible) -> list[Effect]:
        changes = []
        for user_id in self.changed:
            before, after = self.shown.get(user_id), visible(user_id)
            if before == after:
                continue
            if after is None:
                assert before is not None
                del self.shown[user_id]
                after = replace(before, status="offline")
            else:
                self.shown[user_id] = after
            changes.append((before, after))
        self.changed.clear()
        if len(changes) > BURST:
            all_of_them = [after for _, after in changes]
            sync = protocol.PresenceFullSync(all_of_them, partial=True)
            return [Broadcast(protocol.encode(sync))]
        return [
            Broadcast(protocol.encode(frame))
            for before, after in changes
            for frame in _frames(before, after)
        ]

    # Sleep and wake.

    def crashed(self, known: Iterable[str]) -> None:
        """Nobody is watching yet; these are to be shown as soon as anybody does."""
        self.changed = dict.fromkeys(known)

    def restore(
        self,
        shown: Sequence[Participant],
        changed: Iterable[str],
        untold: Iterable[str],
        due: int | None,
        there: Iterable[str],
    ) -> None:
        """As they were; who was shown and is not `there` any more leaves at once."""
        self.shown = {each.id: each for each in shown}
        self.changed = dict.fromkeys(changed)
        self.untold = dict.fromkeys(untold)
        self.due = due
        known = set(there)
        if strays := [user_id for user_id in self.shown if user_id not in known]:
            self.changed |= dict.fromkeys(strays)
            self.due = due or 0


def _frames(
    before: Participant | None, after: Participant
) -> list[protocol.PresenceJoin | PresenceUpdate]:
    words = after.personal_message, after.avatar_id
    update = PresenceUpdate(after.id, after.display_name, after.status, *words)
    if before is not None:
        return [update]
    join = protocol.PresenceJoin(after.id, after.display_name, *words)
    # A join carries no status: it means online.
    return [join] if after.status == "online" else [join, update]
