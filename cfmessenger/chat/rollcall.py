"""Roll call: when who is told who is in a room.

Owns wire.md §3's `participants` row: "on join, leave, presence change, coalesced within
50 ms ...; one entry per user", and what of that a crowd gets. News goes to everyone; a
second tab, which is no news, is told alone. In a crowd whoever comes is told at once,
alone, and everybody else by a tick, so that one arrival costs one frame; and no socket
is told twice within a tick's interval, so a tick passes by who was told alone since the
last one. Must not know why the roster changed.
"""

from collections.abc import Iterable

from ..wire import protocol
from .crowd import COALESCE_MS, Crowd
from .effects import Broadcast, Effect, Roll, Send
from .roster import Roster, participant


class RollCall:
    """The `participants` frames that are due. `alarm_at`: when to look, None if none
    is."""

    def __init__(self, room_id: str, roster: Roster, crowd: Crowd) -> None:
        self.alarm_at: int | None = None  # ms
        self._room_id = room_id
        self._roster = roster
        self._crowd = crowd
        # Until the alarm, in a crowd the tick: everybody is to be told, and since when
        # (ms).
        self._stale = False
        self._stale_at = 0
        # Until the alarm: these connections are to be told, whoever else is. True: of
        # somebody who has come, which is news to all.
        self._untold: dict[str, bool] = {}
        # When everybody was told, in ms; None: not in this life, as far as it matters.
        self._told_at: int | None = None
        # Only in a crowd. Whom was told alone, and when, until the next tick of news or
        # an interval has passed; and whom that tick passed by, or who has missed one:
        # until the tick after.
        self._alone: dict[str, int] = {}
        self._passed: dict[str, None] = {}

    @property
    def crowded(self) -> bool:
        """Whether the room is a crowd now."""
        return self._crowd.holds(len(self._roster.people))

    @property
    def pending(self) -> bool:
        """Whether anybody is still to be told anything."""
        return self._stale or bool(self._untold or self._passed)

    def arrived(self, now: int, conn: str) -> None:
        """Somebody has come, with this connection."""
        self._untold[conn] = True
        self.everyone_soon(now)

    def everyone_soon(self, now: int) -> None:
        """The roster changed."""
        if not self._stale:
            self._stale, self._stale_at = True, now
        if self.crowded:
            self._arm(now)
        else:
            self._arm(now, self._crowd.coalesce_ms(len(self._roster.people)))

    def one_soon(self, now: int, conn: str) -> None:
        """This connection has not seen the roster yet."""
        if conn in self._alone or conn in self._passed:
            self._passed[conn] = None
        else:
            self._untold[conn] = False
        self._arm(now)

    def again_soon(self, now: int, conn: str) -> None:
        """This connection may have missed something of it."""
        if self.crowded:
            self._passed[conn] = None
            self._arm(now)
        else:
            self.one_soon(now, conn)

    def not_yet(self, conn: str) -> None:
        """This connection has to catch up first; then it is `one_soon`."""
        self._untold.pop(conn, None)

    def _arm(self, now: int, wait: int = COALESCE_MS) -> None:
        at = now + wait
        if self.alarm_at is None or at < self.alarm_at:
            self.alarm_at = at

    def alarm(self, now: int) -> list[Effect]:
        """Tell, if it is time."""
        if self.alarm_at is None or self.alarm_at > now:
            return []
        self.alarm_at = None
        return self._tell_crowd(now) if self.crowded else self._tell_room(now)

    def _tell_room(self, now: int) -> list[Effect]:
        roster, stale = self._roster, self._stale
        if stale and all(self._untold.values()) and not self._passed:
            # As many as there are now may wait longer than those who were there at the
            # change: a room that fills has one list more for each doubling or so.
            due = self._crowd.coalesce_ms(len(roster.people))
            due += min(self._stale_at, now)
            if now < due:
                self.alarm_at = due
                return []
        untold = self._here([*self._untold, *self._passed])
        self._forget()
        self._untold.clear()
        if not roster.conns or not (stale or untold):
            return []
        people = [participant(person) for person in roster]
        frame = protocol.encode(protocol.Participants(self._room_id, people))
        if not stale:
            return [Send(untold, frame)]
        self._told_at = now
        return [Broadcast(frame)]

    def _tell_crowd(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        interval = self._crowd.interval_ms(len(self._roster.people))
        untold = self._here(self._untold)
        self._untold.clear()
        if untold:
            effects.append(self._roll(untold))
        if self._stale or self._passed:
            if self._told_at is None or self._told_at > now:
                # An earlier life may have told everybody just now; or the clock went
                # back, and nobody waits longer than an interval for that.
                self._told_at = now
            if now < self._told_at + interval:
                self.alarm_at = self._told_at + interval
            else:
                effects += self._tick(now, interval, untold)
                if self._passed:
                    self.alarm_at = now + interval
        for conn in untold:
            self._alone[conn] = now
        while self._alone and next(iter(self._alone.values())) <= now - interval:
            del self._alone[next(iter(self._alone))]
        return effects

    def _tick(self, now: int, interval: int, untold: tuple[str, ...]) -> list[Effect]:
        """Everybody is told but `untold`, who just were; if there is no news, only who
        was passed by."""
        self._told_at = now
        lately = [conn for conn, at in self._alone.items() if at > now - interval]
        passing = self._here(lately)
        if self._stale:
            self._forget()
            self._passed = dict.fromkeys(passing)
            return [self._roll(None, (*passing, *untold))]
        owed = self._passed
        self._passed = {conn: None for conn in passing if conn in owed}
        just = dict.fromkeys(untold)
        told = (c for c in owed if c not in self._passed and c not in just)
        conns = self._here(told)
        return [self._roll(conns)] if conns else []

    def _forget(self) -> None:
        """Everybody is told."""
        self._stale = False
        self._alone.clear()
        self._passed.clear()

    def _here(self, conns: Iterable[str]) -> tuple[str, ...]:
        return tuple(conn for conn in conns if conn in self._roster.conns)

    def _roll(self, conns: tuple[str, ...] | None, but: tuple[str, ...] = ()) -> Roll:
        roster = self._roster
        people = [participant(each) for each in roster.latest(self._crowd.above)]
        total = len(roster.people)
        frame = protocol.encode(protocol.Participants(self._room_id, people, total))
        start = frame.index(b"[") + 1  # which is in no room id
        end = start + len(protocol.encode(people[0]))
        users = tuple(each.id for each in people)
        return Roll(frame, start, end, users, conns, but)
