"""Mentions: which bot a line speaks to, if any.

`@` and a display name, a persona's id or that without its `bot_`; letters' case does
not matter, the longest name wins, the first mention of a bot wins, and neither the `@`
nor the name may be a part of a longer word (an e-mail address mentions nobody).
"""

from collections.abc import Iterable
from functools import cache

PREFIX = "bot_"


class Names:
    """The names of some bots, to be looked for in what is said."""

    def __init__(self, bots: Iterable[tuple[str, str]]) -> None:
        """`bots` are ids and display names; of two with one name the first has it."""
        names: dict[str, str] = {}
        for bot_id, display_name in bots:
            for name in (display_name, bot_id, bot_id.removeprefix(PREFIX)):
                names.setdefault(name.casefold(), bot_id)
        self.ids = frozenset(names.values())
        self._names = sorted(names.items(), key=lambda each: -len(each[0]))

    def spoken_to(self, text: str) -> str | None:
        """The id of the bot that `text` mentions first."""
        folded = text.casefold()
        at = folded.find("@")
        while at >= 0:
            if not (at and _in_word(folded[at - 1])):
                for name, bot_id in self._names:
                    if folded.startswith(name, at + 1) and _ends(folded, at, name):
                        return bot_id
            at = folded.find("@", at + 1)
        return None


@cache
def names_of(bots: tuple[tuple[str, str], ...]) -> Names:
    """One for all rooms of a process."""
    return Names(bots)


def _ends(text: str, at: int, name: str) -> bool:
    after = text[at + 1 + len(name) : at + 2 + len(name)]
    return not (after and _in_word(name[-1]) and _in_word(after))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
