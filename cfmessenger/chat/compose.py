"""What a chat, nudge or wink becomes: the Message that is logged and shown.

Owns the server-made parts of a message (wire.md §3) and the wink rule: `playAt` half a
second on, and a `playbackKey` that every client sees alike, so that all screens play
it at one moment and once; and what a message says as a number, by which a repeat is
told from other words under the same id. Must not decide whether it may be said.
"""

import hashlib

from ..wire.protocol import Chat, Message, Nudge, Wink

PLAY_DELAY_MS = 500
FINGERPRINT_BYTES = 7  # an int of 56 bits takes 32 bytes, one of 64 takes 48


def compose(
    frame: Chat | Nudge | Wink,
    own_id: str,
    room: str,
    sender: str,
    name: str,
    at: int,
    seq: int,
) -> Message:
    """The Message of a frame, said by `sender` under `name` at the time `at`."""
    if isinstance(frame, Chat):
        said = frame.content
        return Message("chat", own_id, room, sender, name, said, at, seq, False, False)
    if isinstance(frame, Nudge):
        said = "sent a nudge."
        return Message("nudge", own_id, room, sender, name, said, at, seq, True, False)
    said = "sent a wink."
    key = hashlib.sha256(f"{frame.wink_id}:{at}".encode()).hexdigest()[:16]
    return Message(
        "wink",
        own_id,
        room,
        sender,
        name,
        said,
        at,
        seq,
        False,
        True,
        wink_id=frame.wink_id,
        play_at=at + PLAY_DELAY_MS,
        playback_key=key,
    )


def fingerprint(message: Message) -> int:
    """What the message says, less who says it, when and under which id; never 0.

    The same in every process and version, since mirrors hold it.
    """
    said = message.content if message.type == "chat" else message.wink_id or ""
    data = f"{message.type}:{said}".encode()
    digest = hashlib.blake2b(data, digest_size=FINGERPRINT_BYTES).digest()
    return int.from_bytes(digest) or 1
