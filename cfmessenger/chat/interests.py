"""Interests: of whom each gateway wants to hear, and what it is told.

Owns wire.md §4's scope. As long as few are online every gateway hears of everybody; in
a crowd each hears of those alone whom a socket there wants, and of whom guests show. It
knows gateways and no sockets, so what a change costs here is a look at each gateway.
Must not know how anybody is to be shown.
"""

from collections.abc import Collection, Mapping

from ..wire.protocol import Participant
from .effects import News, Tell, Wants

USUAL_ALL = 500
"""With more people than this online it is a crowd (`CFM_PRESENCE_ALL`)."""

Changes = Mapping[str, Participant | None]
"""By user, how they are shown now; None: not any more."""


class Interest:
    """One gateway's."""

    __slots__ = ("asked", "batch", "due", "users", "whole")

    def __init__(self) -> None:
        self.users: dict[str, None] = {}  # whom its sockets want
        self.batch = 0  # of the last `Wants`
        # From that until the next news: that it is to be answered, whatever it asked
        # for, and whom it asked for, or that all of it is asked for.
        self.due = False
        self.asked: dict[str, None] = {}
        self.whole = False

    def take(self, wants: Wants) -> None:
        """It wants others now."""
        self.batch, self.due = wants.batch, True
        if wants.whole:
            self.users, self.whole = {}, True
            self.asked.clear()
        self.users |= dict.fromkeys(wants.add)
        for user_id in wants.drop:
            self.users.pop(user_id, None)
        if not self.whole:
            self.asked |= dict.fromkeys(wants.add)

    def answered(self) -> None:
        """It has the answer."""
        self.due, self.whole, self.asked = False, False, {}


class Interests:
    """By gateway, of those that have sockets which watch. `crowded`: more than `most`
    are online; until four fifths of that are, 400 of 500."""

    def __init__(self, most: int = USUAL_ALL) -> None:
        self.crowded = False  # as the gateways were told last
        self._most = most
        # Each from its first `Wants` until it attaches again, is dead, or wants nobody.
        self._by_gateway: dict[str, Interest] = {}
        # Whom guests showed when the gateways were told last.
        self._guests: dict[str, None] = {}

    def take(self, gateway: str, wants: Wants) -> None:
        """A gateway says of whom it wants to hear; the next news answer that."""
        known = self._by_gateway.get(gateway)
        if known is None:
            if not wants.whole:
                return  # it has attached since, and says all of it behind that
            known = self._by_gateway[gateway] = Interest()
        known.take(wants)
        if not known.users:
            del self._by_gateway[gateway]

    def forget(self, gateway: str) -> None:
        """It is dead; or it attaches, and says what it wants behind that."""
        self._by_gateway.pop(gateway, None)

    def news(
        self,
        shown: Mapping[str, Participant],
        changes: Changes,
        guests: Collection[str],
    ) -> list[Tell]:
        """What each gateway is to be told of these changes, after which these people
        are `shown`; `guests` are those of them whom guests show."""
        opened = self._measure(len(shown))
        now = dict.fromkeys(guests)
        everybody, self._guests = self._guests | now, now
        found = []
        for gateway, interest in self._by_gateway.items():
            if interest.whole or opened:
                news = self._all_of_it(interest, shown, everybody)
            elif changes or interest.due:
                news = self._difference(interest, shown, changes, everybody)
            else:
                continue
            interest.answered()
            found.append(Tell(gateway, news))
        return found

    def _measure(self, online: int) -> bool:
        """Whether the crowd is none any more."""
        before = self.crowded
        least = self._most * 4 // 5 if before else self._most
        self.crowded = online > least
        return before and not self.crowded

    def _all_of_it(
        self,
        interest: Interest,
        shown: Mapping[str, Participant],
        everybody: dict[str, None],
    ) -> News:
        if self.crowded:
            wanted = interest.users | everybody
            people = [shown[each] for each in wanted if each in shown]
        else:
            people = list(shown.values())
        always = [each for each in everybody if each in shown]
        return News(self.crowded, len(shown), interest.batch, True, people, [], always)

    def _difference(
        self,
        interest: Interest,
        shown: Mapping[str, Participant],
        changes: Changes,
        everybody: dict[str, None],
    ) -> News:
        users = interest.users
        told: dict[str, Participant | None] = {
            user_id: after
            for user_id, after in changes.items()
            if not self.crowded or user_id in users or user_id in everybody
        }
        for user_id in interest.asked:
            told[user_id] = shown.get(user_id)
        people = [after for after in told.values() if after is not None]
        gone = [user_id for user_id, after in told.items() if after is None]
        always = [each for each in everybody if each in told and each in shown]
        return News(
            self.crowded, len(shown), interest.batch, False, people, gone, always
        )
