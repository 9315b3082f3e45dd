"""A copy of this code that knows one durable type more, by protocol and room alone.

`EDITS` is all that it takes: an event, the frame that becomes it, and what the room
composes and compares. Whoever has to touch another file for a new type has found a list
that is kept by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[3]
PARTS = ("cfmessenger", "gateway", "actors", "tests")

EVENT = '''
class PokeMessage(Message, frozen=True, gc=False, tag="poke"):
    """A finger on somebody's shoulder.

    Once it is durable, to everyone.
    """

    rate = "nudge"

    finger: str
    status: Receipt | UnsetType = UNSET
    era: int | UnsetType = UNSET


Event = ChatMessage | NudgeMessage | WinkMessage | PokeMessage | LostMessage
'''
FRAME = '''
class Poke(Durable, frozen=True, gc=False, tag="poke"):
    """Put a finger on somebody's shoulder.

    Counts against the rate of `nudge`.
    """

    becomes = PokeMessage

    finger: Annotated[str, Meta(pattern="^[a-z]{1,10}$", examples=["thumb"])]
    id: MessageId | UnsetType = UNSET


class Typing('''
COMPOSED = """
    if isinstance(frame, Poke):
        finger, said = frame.finger, "pokes."
        return PokeMessage(
            own_id, room, sender, name, said, at, seq, False, False, finger
        )
    assert_never(frame)
"""
SAID = """
    elif isinstance(event, PokeMessage):
        said = f"poke:{event.finger}"
    elif isinstance(event, UnknownEvent):
"""

EDITS: dict[str, list[tuple[str, str]]] = {
    "cfmessenger/wire/events.py": [
        ("\nEvent = ChatMessage | NudgeMessage | WinkMessage | LostMessage\n", EVENT),
    ],
    "cfmessenger/wire/protocol.py": [
        ("    NudgeMessage,\n", "    NudgeMessage,\n    PokeMessage,\n"),
        ("\nclass Typing(", FRAME),
        (
            "DurableFrame = Chat | Nudge | Wink\n",
            "DurableFrame = Chat | Nudge | Wink | Poke\n",
        ),
    ],
    "cfmessenger/chat/compose.py": [
        (
            "from ..wire.protocol import Chat,",
            "from ..wire.events import PokeMessage\n"
            "from ..wire.protocol import Poke\n"
            "from ..wire.protocol import Chat,",
        ),
        ("\n    assert_never(frame)\n", COMPOSED),
        ("\n    elif isinstance(event, UnknownEvent):\n", SAID),
    ],
}


def grow(
    folder: Path,
    edits: Mapping[str, list[tuple[str, str]]] = EDITS,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """The copy, in this folder, with these edits and these files more."""
    for part in PARTS:
        shutil.copytree(
            ROOT / part,
            folder / part,
            ignore=shutil.ignore_patterns("__pycache__", "vendor"),
        )
    for path, text in more.items():
        (folder / path).write_text(text)
    for path, changes in edits.items():
        text = (folder / path).read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{path} has no longer one {old!r}"
            text = text.replace(old, new)
        (folder / path).write_text(text)
    return folder


def run(copy: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`python <command>` as the copy's own, whatever is installed."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)} | env,
        capture_output=True,
        text=True,
    )
