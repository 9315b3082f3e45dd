"""What `cfmessenger chat` shows, line by line.

Owns the look of every event, and one safety rule: what others wrote reaches the
terminal without control, bidirectional or line-separating characters, and never at the
start of a line, so it can neither steer the terminal nor pose as another line.
Must not talk to the server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from itertools import islice

from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.text import Text

from cfmessenger.wire.events import ChatMessage, Message, WinkMessage
from cfmessenger.wire.protocol import Participant

# C0 and C1 controls, bidirectional marks, embeddings and isolates, line and paragraph
# separators, lone surrogates, the tag characters (invisible text).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_NAME_STYLES = ("cyan", "magenta", "yellow", "blue", "bright_red", "bright_cyan")
_TICKS = {"sent": "✓", "delivered": "✓✓", "read": "✓✓ read"}


def plain(text: str) -> str:
    """Text of others made safe for one line of a terminal; tabs become spaces."""
    return _UNSAFE.sub("", text.replace("\t", " "))


class Screen:
    """Prints events. `interactive`: a person is at both ends, not a script."""

    def __init__(self, user_id: str, *, interactive: bool) -> None:
        self.user_id = user_id
        self.interactive = interactive
        # Both look up their stream at each print: a prompt puts itself below it.
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._errors = Console(stderr=True, markup=False, highlight=False, emoji=False)

    def message(self, message: Message) -> None:
        """A message; our own with the tick of its delivery."""
        text = self._head(message.timestamp)
        own = message.sender_id == self.user_id
        name = plain(message.display_name) or message.sender_id
        style = "green" if own else self._style_of(message.sender_id)
        if isinstance(message, ChatMessage):
            text.append(f"{name}: ", style=style)
            first, *rest = message.content.split("\n")
            text.append(plain(first))
            for line in rest:  # indented: a line break must not forge a line
                text.append(f"\n{' ' * 10}{plain(line)}")
        else:
            text.append("* ", style="bold")
            text.append(name, style=style)
            text.append(f" {plain(message.content)}")
            if isinstance(message, WinkMessage):
                text.append(f" [{plain(message.wink_id)}]", style="bold")
        if own:
            text.append(f" {self._tick(message.status)}", style="dim")
        self._print(text)

    def wink(self, message: WinkMessage) -> None:
        """The animation, as far as a terminal can."""
        text = self._head(message.timestamp)
        name = plain(message.display_name) or message.sender_id
        text.append("* ", style="bold")
        text.append(name, style=self._style_of(message.sender_id))
        text.append(" winks ")
        text.append(f"~*~ {plain(message.wink_id)} ~*~", style="bold magenta")
        if message.sender_id == self.user_id:
            text.append(f" {self._tick(message.status)}", style="dim")
        self._print(text)

    def notice(self, text: str) -> None:
        """A line that nobody said. What others chose in `text` is made safe."""
        self._print(Text(f"-- {plain(text)}", style="dim"))

    def error(self, text: str) -> None:
        """Something went wrong; on the error stream, plainly."""
        self._print(Text(f"!! {plain(text)}", style="red"), self._errors)

    def participants(
        self, people: Collection[Participant], total: int, at_most: int
    ) -> None:
        """Who of `total` is here, with what is not plain `online`."""
        names = [
            one.display_name + ("" if one.status == "online" else f" ({one.status})")
            for one in islice(people, at_most)
        ]
        if total > len(names):
            names.append(f"and {total - len(names):,} more")
        self.notice(f"here: {', '.join(names) or 'nobody'}")

    def _head(self, timestamp: int) -> Text:
        clock = time.strftime("%H:%M:%S", time.localtime(timestamp / 1000))
        return Text(f"{clock} ", style="")

    def _tick(self, status: str | UnsetType) -> str:
        return _TICKS["sent" if status is UNSET else status]

    def _style_of(self, user_id: str) -> str:
        return _NAME_STYLES[sum(user_id.encode()) % len(_NAME_STYLES)]

    def _print(self, text: Text, console: Console | None = None) -> None:
        (console or self._console).print(text, soft_wrap=True)
