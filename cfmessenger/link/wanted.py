"""Of whom the presence sockets of a gateway want to hear, and what the registry knows
of that.

Each socket's own set is kept here; the registry hears of the people in all of them,
each once, however many want them: the whole when the gateway attaches, which is also
how a registry that has crashed asks, and differences since (`Wants`). Pure: whom a
socket is told of is `Onlookers`'s. `S` is what the shell takes for a socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from cfmessenger.chat.effects import Wants
from cfmessenger.errors import ProtocolError
from cfmessenger.link.audience import S
from cfmessenger.wire.decoding import MAX_WATCHED, rule

MAX_ALWAYS = 1000
"""People with whom a user has direct rooms: more are not told of by themselves."""


class Circle(Generic[S]):
    """The sockets that want to hear of one user."""

    __slots__ = ("batch", "user_id", "watchers")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.batch = 0  # of the `Wants` that first asked for them; 0: none yet
        self.watchers: dict[Watcher[S], None] = {}


class Watcher(Generic[S]):
    """One socket. It has tuples, for there are thousands of these."""

    __slots__ = (
        "always",
        "asked",
        "caught",
        "everyone",
        "socket",
        "synced",
        "user_id",
        "watched",
    )

    def __init__(self, socket: S, user_id: str) -> None:
        self.socket = socket
        self.user_id = user_id
        self.always: tuple[Circle[S], ...] = ()  # its user, and those of direct rooms
        self.watched: tuple[Circle[S], ...] = ()  # whom it said that it watches
        # From a `watch` until that is answered: of whom. None: nothing is to be
        # answered.
        self.asked: dict[str, None] | None = None
        self.synced = False  # from its first full sync on
        self.everyone = False  # whether its last full sync was of everybody
        self.caught = 0  # the last of the gateway's `Arrivals` who is in that


class Wanted(Generic[S]):
    """The circles of one gateway."""

    def __init__(self) -> None:
        # By user, each until a `sweep` finds that nobody wants them.
        self.circles: dict[str, Circle[S]] = {}
        self.answered = 0  # the last `Wants` that the registry has answered
        self._batch = 0  # the last `Wants` that was made
        # Until the next `Wants`: whom it brings and takes back, whether there must be
        # one, and whether it is about all of them.
        self._added: dict[str, Circle[S]] = {}
        self._dropped: list[str] = []
        self._due = False
        self._whole = True
        self._unwanted: dict[str, Circle[S]] = {}  # until the next `sweep`, or wanted

    # What sockets want.

    def enter(self, watcher: Watcher[S], friends: Iterable[str]) -> None:
        """A socket comes. Its user has direct rooms with these."""
        ids = dict.fromkeys((watcher.user_id, *friends))
        watcher.always = tuple(
            self._join(watcher, each) for each in list(ids)[: MAX_ALWAYS + 1]
        )

    def leave(self, watcher: Watcher[S]) -> None:
        """It is gone."""
        for circle in (*watcher.always, *watcher.watched):
            self._part(watcher, circle)
        watcher.always = watcher.watched = ()

    def meet(self, watcher: Watcher[S], user_id: str) -> Circle[S] | None:
        """Its user has a direct room with somebody; None if that is known."""
        if len(watcher.always) > MAX_ALWAYS or any(
            circle.user_id == user_id for circle in watcher.always
        ):
            return None
        known = any(circle.user_id == user_id for circle in watcher.watched)
        circle = self._join(watcher, user_id)
        watcher.always += (circle,)
        return None if known else circle

    def watch(self, watcher: Watcher[S], user_ids: Iterable[str]) -> None:
        """It watches these too. Raises ProtocolError VALIDATION_ERROR, and changes
        nothing, if that would be more than `MAX_WATCHED`."""
        already = {circle.user_id for circle in watcher.watched}
        new = [each for each in dict.fromkeys(user_ids) if each not in already]
        if len(already) + len(new) > MAX_WATCHED:
            words = rule("watched")
            raise ProtocolError("VALIDATION_ERROR", words, field="userIds")
        watcher.watched += tuple(self._join(watcher, each) for each in new)

    def unwatch(self, watcher: Watcher[S], user_ids: Iterable[str]) -> None:
        """It watches these no more. Whom it has a direct room with it still wants."""
        over = set(user_ids)
        ended = [each for each in watcher.watched if each.user_id in over]
        watcher.watched = tuple(e for e in watcher.watched if e.user_id not in over)
        for circle in ended:
            if circle not in watcher.always:
                self._part(watcher, circle)

    def _join(self, watcher: Watcher[S], user_id: str) -> Circle[S]:
        circle = self.circles.get(user_id)
        if circle is None:
            circle = self.circles[user_id] = Circle(user_id)
            self._added[user_id] = circle
        self._unwanted.pop(user_id, None)
        circle.watchers[watcher] = None
        return circle

    def _part(self, watcher: Watcher[S], circle: Circle[S]) -> None:
        circle.watchers.pop(watcher, None)
        if not circle.watchers:
            self._unwanted[circle.user_id] = circle

    def sweep(self) -> list[str]:
        """Whom nobody wants any more; the registry hears of it with the next `Wants`.

        To be called now and then, so that who comes and goes costs it nothing.
        """
        gone = list(self._unwanted)
        for user_id in gone:
            circle = self.circles.pop(user_id)
            if circle.batch:
                self._dropped.append(user_id)
            self._added.pop(user_id, None)
        self._unwanted.clear()
        self._due |= bool(self._dropped)
        return gone

    # What the registry hears, and answers.

    @property
    def due(self) -> bool:
        """There is something to tell it."""
        return self._due or bool(self._added)

    def ask(self) -> int:
        """The number of the next `Wants`, which is made whatever is in it."""
        self._due = True
        return self._batch + 1

    def knows(self, circles: Iterable[Circle[S]]) -> bool:
        """Whether the registry has answered for all of these."""
        return all(0 < circle.batch <= self.answered for circle in circles)

    def leaving(self) -> Wants | None:
        """What the registry, to which the gateway is attached, is to hear now."""
        if not self.due:
            return None
        if self._whole:
            return self.again() or Wants(self._batch, True, [], [])
        self._batch += 1
        for circle in self._added.values():
            circle.batch = self._batch
        # Who was dropped and is wanted again has a new circle.
        dropped = [each for each in self._dropped if each not in self.circles]
        wants = Wants(self._batch, False, list(self._added), dropped)
        self._said()
        return wants

    def again(self) -> Wants | None:
        """What it hears behind an attach: all of it; None: nobody is wanted."""
        self._batch += 1
        for circle in self.circles.values():
            circle.batch = circle.batch or self._batch
        users = list(self.circles)
        self._said()
        self._whole = not users
        return Wants(self._batch, True, users, []) if users else None

    def _said(self) -> None:
        self._added, self._dropped = {}, []
        self._due = self._whole = False

    def restart(self) -> None:
        """No socket is left: the next `Wants` is of all there is then, and before that
        one says that there is nobody."""
        self.circles, self._unwanted = {}, {}
        self._added, self._dropped = {}, []
        self._due = self._whole = True
