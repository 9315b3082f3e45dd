"""The checker's rules about what storage has lost for good (wire.md §3, design.md §3).

It may be lost where who said it died within the lag of a replica; then it is named, in
a new era, and its number is not given again in the old one. What need not be lost is
not: what a living process has is given back.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.system.sim.history import LOST, Frame, History
from tests.system.sim.reading import (
    bare,
    durable,
    is_gone,
    logged,
    shown_to,
    told_lost,
    unknowable,
    what_of,
    who,
)


def _era(message: Frame) -> int:
    return int(message.get("era", 0))


def numbers(history: History) -> Iterator[str]:
    """In one era a number is one message, whoever was shown it, and when; unless it is
    told to be lost, as where another life had given it anew before anybody told it."""
    first: dict[tuple[str, int, int], Frame] = {}
    shown = (
        (socket.room, message)
        for socket in history.sockets
        for _, message in shown_to(socket)
    )
    kept = ((room, entry.message) for room, entry in logged(history))
    for room, message in (*shown, *kept):
        known = first.setdefault((room, _era(message), message["seq"]), message)
        if any(_excused(history, room, each) for each in (known, message)):
            continue
        if bare(known) != bare(message):
            yield f"{room}: {what_of(known)}, and in the same era {what_of(message)}"
            return


def _excused(history: History, room: str, message: Frame) -> bool:
    told = message["seq"] in told_lost(history, room)
    return unknowable(history, room, message) or (
        told and is_gone(history, room, message)
    )


def told_wrongly(history: History) -> Iterator[str]:
    """What is told to be lost was there, is not, and had a lower number; or a life that
    is lost itself had told so, and nobody knows that it has been given back since."""
    for room, entry in logged(history):
        if entry.message["type"] != LOST:
            continue
        low, high = entry.message["from"], entry.message["to"]
        lost = [each.message for each in history.gone if each.room == room]
        gone = {each["seq"] for each in lost}
        for each in lost:
            if each["type"] == LOST:
                gone |= set(range(each["from"], each["to"] + 1))
        if not {low, high} <= gone or not low <= high < entry.seq:
            yield f"{room} {entry.seq}: {low} to {high} are told to be lost"


def unhealed(history: History) -> Iterator[str]:
    """What a living process had of a log is in it again, as it was."""
    kept = {(room, entry.seq): entry.message for room, entry in logged(history)}
    for room, process, message in history.owed:
        found = kept.get((room, message["seq"]))
        if found is None or bare(found) != bare(message):
            yield f"{room}: {process} had {what_of(message)}, which is lost"


def eras(history: History) -> Iterator[str]:
    """What follows upon a loss is of its era."""
    for room, entries in history.logs.items():
        era = 0
        for entry in entries:
            if entry.message["type"] == LOST:
                era = entry.seq
            if _era(entry.message) != era:
                found = _era(entry.message)
                yield f"{room} {entry.seq} is of the era {found}, not of {era}"


def resumed(history: History) -> Iterator[str]:
    """Who comes back with a number of another era, or with one that the room never
    reached, is told that there is a gap."""
    losses = [
        (room, message) for room, message in durable(history) if message["type"] == LOST
    ]
    for socket in history.sockets:
        told = [each for each in socket.heard if each.frame["type"] == "history"]
        if socket.since is None or not told:
            continue
        at, frame = told[0]
        newest = max(
            (message["seq"] for message in frame["messages"]),
            default=min(frame["lastSeq"], socket.since),
        )
        era = _era(frame)
        if era and (socket.room, era) not in [(r, m["seq"]) for r, m in losses]:
            yield f"{who(socket, at)} is told of the era {era}, which never began"
        if frame["gap"]:
            continue
        if era and socket.era is None and socket.since >= era:
            continue  # wire.md §3: it counts from the `lost` on
        if era != (socket.era or 0) and newest >= era:
            yield f"{who(socket, at)} comes from {socket.era} to {era} without a gap"
        elif socket.since > frame["lastSeq"]:
            yield f"{who(socket, at)} has more than {frame['lastSeq']} without a gap"
