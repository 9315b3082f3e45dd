"""Who waits at a stub: its sockets, and whoever gave its object a notification.

Owns what a stub may ask of a socket, and how either is answered, so that what one of
them raises is its own end and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from cfmessenger.chat.effects import Attachment
from cfmessenger.link import messages as link
from cfmessenger.link.half import Half
from cfmessenger.link.uncovered import Payer, Pending

if TYPE_CHECKING:
    from gateway.live.stub import Stub


class Outlet(Payer, Protocol):
    """A socket, as a stub sees it."""

    conn: str
    user_id: str
    attachment: Attachment  # as its user is shown, by the newest that is known
    write: Callable[[bytes], None]

    def write_all(self, pieces: Sequence[bytes]) -> None: ...
    def told(self, blob: bytes, fault: bool) -> None: ...
    def end(self, code: int, reason: str) -> None: ...
    def catch_up(self, stub: Stub, since: int, seq: int) -> None: ...
    def recall(self, stub: Stub, seq: int) -> None: ...
    def attached(self, stub: Stub, attachment: Attachment) -> None: ...
    def refused(self, data: bytes) -> None: ...
    def go_on(self) -> None: ...
    def failed(self) -> None: ...  # called while an exception is handled


def safely(outlet: Outlet, act: Callable[..., None], *what: object) -> None:
    """What a socket's own code raises ends that socket: not the link, nor others."""
    try:
        act(*what)
    except Exception:
        outlet.failed()


def give_back(half: Half[Outlet], pending: Pending) -> None:
    """Give back what a frame cost that is pending no more."""
    entry = pending.input
    if type(entry) is link.Said:
        outlet = half.audience.get(entry.conn)
        if half.pending.pay_back(outlet, entry.data) and outlet is not None:
            asyncio.get_running_loop().call_soon(outlet.go_on)


def answer(pending: Pending, problem: Exception | None = None) -> None:
    """Tell who waits for it that a notification is covered, or will not be."""
    done = cast("asyncio.Future[None]", pending.waiter)
    if done.done():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)
        done.exception()  # looked at: nobody may be waiting any more
