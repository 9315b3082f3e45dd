"""Mentions: which bot a line speaks to, if any.

A mention is `@` and a display name, a persona's id or that without its `bot_`. Case
does not matter, the longest name wins, the first mention of a bot wins. It counts where
a person would mean it: neither `@` nor name is part of a longer word, an address
or a link. Letters of scripts that put no spaces between words (Chinese, Japanese, Thai
and others) may touch it: they make no longer word with it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

PREFIX = "bot_"

# Text without a space: an `@` that is not its first character may be part of a word.
_CHUNK = re.compile(r"\S+")
_LINK = re.compile(r"://|www\.|mailto:|\w\.\w+[/?#]")
# Between a word and an `@` these tie the two together, so it is no mention.
_TIES = frozenset("./\\=+-&#%~_*|$^<@`")
# Between a name and a word after it these do.
_TIES_ON = frozenset("./@-")
# An `@` after these is no mention even without a word before them: a path, code.
_NEVER_BEFORE = frozenset("/`")


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
        for chunk in _CHUNK.finditer(folded):
            for at in _openings(chunk[0]):
                start = chunk.start() + at + 1
                for name, bot_id in self._names:
                    if folded.startswith(name, start) and _ends(folded, start, name):
                        return bot_id
        return None


def _openings(chunk: str) -> Iterator[int]:
    """Where an `@` in here may begin a mention."""
    at = chunk.find("@")
    if at < 0:
        return
    link = _LINK.search(chunk)
    end = link.start() if link else len(chunk)
    wordless = next((i for i, c in enumerate(chunk) if _in_word(c)), len(chunk))
    while 0 <= at < end:
        if at == 0 or _opens(chunk, at, wordless):
            yield at
        at = chunk.find("@", at + 1)


def _opens(chunk: str, at: int, wordless: int) -> bool:
    before = chunk[at - 1]
    if before in _NEVER_BEFORE:
        return False
    # Marks belong to what they are on: an emoji's selector, an accent.
    base = at - 1
    while base and unicodedata.category(chunk[base])[0] == "M":
        base -= 1
    return at <= wordless or not (_in_word(chunk[base]) or before in _TIES)


def _ends(text: str, start: int, name: str) -> bool:
    end = start + len(name)
    after, further = text[end : end + 1], text[end + 1 : end + 2]
    if not after or not _in_word(name[-1]):
        return True
    return not _in_word(after) and not (after in _TIES_ON and _in_word(further))


def _in_word(character: str) -> bool:
    """Whether a character makes one word with those beside it.

    So do `_`, and digits and letters that are neither wide nor of a script without
    capitals.
    """
    if character == "_":
        return True
    if not character or not character.isalnum():
        return False
    wide = unicodedata.east_asian_width(character) in "WF"
    return not wide and unicodedata.category(character) != "Lo"
