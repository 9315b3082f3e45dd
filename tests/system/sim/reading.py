"""How a history is read: what sockets were shown, what was sent, what was lost.

Shared by the checker's rules; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.system.sim.history import (
    LOST,
    MESSAGES,
    Frame,
    History,
    Logged,
    Sent,
    Socket,
)


def shown_to(socket: Socket) -> Iterator[tuple[float, Frame]]:
    for at, frame in socket.heard:
        if frame["type"] in MESSAGES:
            yield at, frame
        elif frame["type"] == "history":
            for message in frame["messages"]:
                yield at, message


def bare(message: Frame) -> Frame:
    # Statuses are best effort and change; everything else never does.
    return {name: value for name, value in message.items() if name != "status"}


def sends_of(history: History) -> dict[int, Sent]:
    return {sent.serial: sent for each in history.sockets for sent in each.sent}


def logged(history: History) -> Iterator[tuple[str, Logged]]:
    for room, entries in history.logs.items():
        for entry in entries:
            yield room, entry


def between_gaps(socket: Socket) -> list[list[Frame]]:
    """What it was shown, cut where it was told that something is missing: behind a gap
    numbers may stand for something else, and what is known comes again."""
    rows: list[list[Frame]] = [[]]
    for _, frame in socket.heard:
        if frame["type"] in MESSAGES:
            rows[-1].append(frame)
        elif frame["type"] == "history":
            if frame["gap"]:
                rows.append([])
            rows[-1] += frame["messages"]
    return rows


# What a failover has taken.


def loses(history: History, room: str) -> bool:
    """Whether anything of this room is gone."""
    return any(gone.room == room for gone in history.gone)


def is_gone(history: History, room: str, message: Frame) -> bool:
    """Whether this very message is."""
    return any(
        gone.room == room
        and gone.message["seq"] == message["seq"]
        and bare(gone.message) == bare(message)
        for gone in history.gone
    )


def told_lost(history: History, room: str) -> set[int]:
    """The numbers of which the log says that they are lost, if any are."""
    if not loses(history, room):
        return set()
    return {
        seq
        for entry in history.logs.get(room, [])
        if entry.message["type"] == LOST
        for seq in range(entry.message["from"], entry.message["to"] + 1)
    }


def unknowable(history: History, room: str, message: Frame) -> bool:
    """Whether something is gone, and nobody finds out (docs/semantics.md, Surprises).

    Either a life has given its number to something else and ended: who comes then with
    what it was shown is behind the log. Or the word that it is lost was lost in its
    turn, when all who had been shown it had left.
    """
    if not is_gone(history, room, message):
        return False
    seq = message["seq"]
    return any(
        entry.seq == seq and entry.writer in history.ended
        for entry in history.logs.get(room, [])
    ) or any(
        each.room == room
        and each.message["type"] == LOST
        and each.message["from"] <= seq <= each.message["to"]
        and not _knows(history, room, seq, each.at)
        for each in history.gone
    )


def _knows(history: History, room: str, seq: int, at: float) -> bool:
    """Whether anybody is there who was shown this number, or a later one."""
    return any(
        socket.room == room
        and socket.opened_at <= at
        and (socket.closed_at is None or socket.closed_at >= at)
        and any(when <= at and each["seq"] >= seq for when, each in shown_to(socket))
        for socket in history.sockets
    )


def durable(history: History) -> Iterator[tuple[str, Frame]]:
    """What the logs hold, and what they held once."""
    for room, entry in logged(history):
        yield room, entry.message
    for gone in history.gone:
        yield gone.room, gone.message


def who(socket: Socket, at: float | None = None) -> str:
    when = "" if at is None else f" at {at:.3f}"
    return f"{socket.user} on socket {socket.number} in {socket.room}{when}"


def what_of(message: Frame) -> str:
    said = message.get("winkId") or message["content"]
    return f"{message['seq']} ({message['senderId']} {message['id']} {said!r})"


def named(sent: Sent) -> str:
    return f"#{sent.serial} ({sent.kind} {sent.id})"
