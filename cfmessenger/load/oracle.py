"""The oracle: whether every socket saw what the server had acknowledged.

Owns the promises that a load test checks (wire.md §3, §5), per room and per socket: a
`seq` has no hole and no repeat, means the same message to everybody, and no message has
two of them; whatever the room numbered is shown to every socket that was in, in order.
Pure, and cheap where it is hot: a socket's next message is most often the very bytes
that the room's first socket got under that number, and comparing them is the check.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .result import MAX_EXAMPLES, Oracle

MAX_MISSING = 10_000
"""Missing numbers that are remembered one by one; those beyond are only counted."""


class Evidence(msgspec.Struct, array_like=True, frozen=True):
    """What one worker saw of a room: the digest of `(seq, id)` for first to last.

    `digest` is empty when a number in between was seen by nobody.
    """

    room: str
    first: int
    last: int
    digest: str


class Shown(msgspec.Struct, gc=False):
    """A message as the room's first socket saw it.

    `origin`, `due` and `tally` are the caller's: who sent it here, when it was to be
    sent, and where its latencies are counted.
    """

    seq: int
    id: str
    body: bytes
    origin: Any = None
    due: float = 0.0
    tally: dict[int, int] = {}
    seen: int = 0


class Room:
    """What is known of a room's numbers. `shown` holds what somebody still lacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: dict[int, Shown] = {}
        self.tracks: set[Track] = set()
        self.left = 0  # tracks that are over and had nothing wrong with them
        self.seats = 0  # sockets that are to be in; the caller's
        self.top = 0  # the highest number that was seen
        self.conflicts = 0  # numbers that meant two messages
        self.repeats = 0  # messages that had two numbers
        self.examples: list[str] = []
        self._first = 1
        self._digested = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def enter(self, seq: int) -> Track:
        """A socket came in and was shown everything up to `seq`."""
        if not self.tracks and not self.left:
            self._first, self._digested = seq + 1, seq
        track = Track(self, seq)
        self.tracks.add(track)
        return track

    def leave(self, track: Track) -> None:
        """A socket left of its own will: nothing more is owed to it."""
        track.open = False
        if not (track.missing or track.overflow or track.reordered or track.duplicated):
            self.tracks.discard(track)
            self.left += 1

    def find(self, seq: int, message_id: str) -> Shown | None:
        """The message of this number if it was seen before; notes if it was another."""
        shown = self.shown.get(seq)
        if shown is not None and shown.id != message_id:
            self.conflicts += 1
            self.note(f"seq {seq} is {shown.id} to one socket, {message_id} to another")
        return shown

    def add(self, shown: Shown, *, repeated: bool = False) -> None:
        """A number is seen for the first time. `repeated`: its id had another one."""
        if repeated:
            self.repeats += 1
            self.note(f"{shown.id} is there twice, the second time as seq {shown.seq}")
        self.shown[shown.seq] = shown
        self.top = max(self.top, shown.seq)

    @property
    def pruned(self) -> int:
        """Numbers up to this one were seen by everybody, and are forgotten."""
        return self._digested

    def prune(self) -> None:
        """Forget what everybody has seen."""
        wanting = (t.needs for t in self.tracks if t.open or t.missing)
        low = min(wanting, default=self.top)
        while self._digested < low:
            shown = self.shown.pop(self._digested + 1, None)
            if shown is None:
                break
            self._take_in(shown)

    def evidence(self) -> Evidence:
        """For the comparison with other workers that had sockets in the room."""
        for seq in range(self._digested + 1, self.top + 1):
            if (shown := self.shown.get(seq)) is None:
                return Evidence(self.name, self._first, self.top, "")
            self._take_in(shown)
        return Evidence(self.name, self._first, self.top, self._digest.hexdigest())

    def settled(self, top: int) -> bool:
        """Whether every socket that is in has seen everything up to `top`."""
        return all(t.last >= top and not t.missing for t in self.tracks if t.open)

    def note(self, text: str) -> None:
        """Keep an example for people."""
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{self.name}: {text}")

    def _take_in(self, shown: Shown) -> None:
        self._digest.update(b"%d %b\n" % (shown.seq, shown.id.encode()))
        self._digested = shown.seq


class Track:
    """What one socket has seen of a room; survives its reconnects."""

    __slots__ = (
        "duplicated",
        "last",
        "missing",
        "open",
        "overflow",
        "reordered",
        "room",
    )

    def __init__(self, room: Room, seq: int) -> None:
        self.room = room
        self.last = seq
        self.open = True
        self.missing: set[int] = set()
        self.overflow = 0
        self.duplicated = 0
        self.reordered = 0

    @property
    def needs(self) -> int:
        """The highest number up to which nothing more can come."""
        return min(self.missing) - 1 if self.missing else self.last

    def see(self, seq: int) -> bool:
        """The socket is shown `seq`; whether it had not seen it before."""
        if seq == self.last + 1:
            self.last = seq
        elif seq > self.last:
            self._jump(seq)
        elif seq in self.missing:
            self.missing.discard(seq)
            self.reordered += 1
            self.room.note(f"seq {seq} came after seq {self.last}")
        else:
            self.duplicated += 1
            self.room.note(f"seq {seq} came twice, or before its socket was in")
            return False
        return True

    def skip(self, seq: int) -> None:
        """The server said itself that nothing up to `seq` is kept (`gap: true`)."""
        self.last = max(self.last, seq)

    def _jump(self, seq: int) -> None:
        room = min(seq - self.last - 1, MAX_MISSING - len(self.missing))
        self.missing.update(range(self.last + 1, self.last + 1 + room))
        self.overflow += seq - self.last - 1 - room
        self.room.note(f"seq {seq} came straight after seq {self.last}")
        self.last = seq


def judge(rooms: list[Room], tops: dict[str, int]) -> Oracle:
    """What all sockets of these rooms saw, against what they should have.

    `tops` is the highest number that anybody, on any worker, saw in each room. What a
    socket lacks is *lost* if somebody was shown it, and a *gap* if nobody was. A socket
    that left is owed nothing after the last that it saw.
    """
    verdict = Oracle()
    for room in rooms:
        tracks, top = room.tracks, max(room.top, tops.get(room.name, 0))
        verdict.checked_rooms += 1
        verdict.checked_sockets += len(tracks) + room.left
        verdict.duplicated += room.conflicts + room.repeats
        for track in tracks:
            verdict.duplicated += track.duplicated
            verdict.reordered += track.reordered
            holes = sum(seq not in room.shown for seq in track.missing)
            lost = len(track.missing) - holes + track.overflow
            if track.open and track.last < top:
                room.note(f"a socket saw nothing after seq {track.last} of {top}")
                lost += top - track.last
            verdict.gaps += holes
            verdict.lost += lost
        verdict.examples += room.examples
    del verdict.examples[MAX_EXAMPLES:]
    return verdict


def compare(evidence: list[Evidence]) -> Oracle:
    """Whether workers with sockets in the same rooms saw the same messages.

    Only what reached from the same number to the same number is compared: a difference
    there is a loss, which `judge` has found.
    """
    verdict, seen = Oracle(), dict[tuple[str, int, int], str]()
    for each in evidence:
        if not each.digest:
            continue
        known = seen.setdefault((each.room, each.first, each.last), each.digest)
        if known != each.digest:
            verdict.duplicated += 1
            verdict.examples.append(
                f"{each.room}: some of seq {each.first} to {each.last} are other "
                "messages to other workers"
            )
    del verdict.examples[MAX_EXAMPLES:]
    return verdict
