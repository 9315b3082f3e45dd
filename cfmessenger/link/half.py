"""A gateway's half of the link to one object: what it has to say there, and to whom.

Owns the object's inputs (`Uncovered`) and sockets (`Audience`), and the numbers that
tell lives and attaches apart (design.md §3, Fencing). It makes the messages to the
object, in order. Pure: it sends none and writes to no socket. The gateway's stub and
the load harness are its shells; `S` is what either takes for a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol

from cfmessenger.chat.effects import Wants

from . import messages as link
from .audience import Audience, S
from .uncovered import Uncovered


class Interest(Protocol):
    """Of whom the sockets want to hear, at the registry alone."""

    @property
    def waits(self) -> bool:
        """Somebody waits for its answer."""

    def leaving(self) -> Wants | None:
        """What it is to hear now."""

    def again(self) -> Wants | None:
        """What it is to hear behind an attach: all of it."""


class Half(Generic[S]):
    """What a gateway keeps of one object, whether or not it is attached to it."""

    def __init__(self, name: str, interest: Interest | None = None) -> None:
        self.name = name
        self.interest = interest
        self.epoch = 0  # the newest that was heard of; never falls
        # In which epoch the sockets were shown `audience.seq`, and which process said
        # it, by its id; "": it was read in the log.
        self.shown_in, self.shown_by = 0, ""
        self.speaker = ""  # who is attached to, from `attach` on
        self.rested = 0  # the epoch whose goodbye was the last thing heard, else 0
        self.turn = 0  # of the last attach; what answers another one is too late
        # The sockets, and how far each has got. Not made as an `Audience[S]()`, here
        # and wherever there are many: typing would give each a dictionary.
        self.audience: Audience[S] = Audience()
        self.pending = Uncovered()  # inputs, until covered, settled or given up

    @property
    def needed(self) -> bool:
        """Somebody here is known to the object, or waits for it."""
        return bool(self.audience.held or self.expects)

    @property
    def expects(self) -> bool:
        """Something is to be done by the object."""
        waits = self.interest is not None and self.interest.waits
        return bool(self.pending) or waits

    # What is to be sent.

    def queued(self) -> link.Inputs | None:
        """What was queued for the object, which is attached: it leaves now."""
        entries = self.pending.leaving()
        wants = None if self.interest is None else self.interest.leaving()
        if not entries and wants is None:
            return None
        return link.Inputs(self.name, entries, self.turn, wants)

    def attach(self, turn: int, process: str = "") -> list[link.ToActor]:
        """Who is here, then everything that is not covered: what was queued too.
        `process`: the id of the one that is attached to."""
        self.turn, self.speaker = turn, process
        seq, sockets = self.audience.arrive(self.pending.opened)
        pending, before = self.pending, self.audience.seq if seq is None else 0
        attach = link.Attach(
            self.name,
            self.epoch,
            seq,
            pending.covered,
            pending.sent,
            sockets,
            turn,
            self.rested,
            before,
            self.shown_in,
            self.shown_by not in ("", process),
        )
        entries = self.pending.again()
        wants = None if self.interest is None else self.interest.again()
        if not entries and wants is None:
            return [attach]
        return [attach, link.Inputs(self.name, entries, turn, wants)]

    # What was heard.

    def let_in(self, subscribed: link.Subscribed) -> None:
        """From here on these sockets are in the fan-out."""
        for conn in subscribed.conns:
            if self.audience.let_in(conn):
                self.pending.entered(conn, subscribed.seq)
        # What they were shown on entering counts as seen, for the next attach.
        self.shown(subscribed.seq, self.epoch, self.speaker)

    def shown(self, seq: int, epoch: int, by: str) -> None:
        """The members were shown what is up to `seq`, in this epoch and by this
        process, or as the log has it."""
        if seq >= self.audience.seq:
            self.audience.shown(seq)
            self.shown_in, self.shown_by = epoch, by

    def ended(self, goodbye: link.Goodbye) -> bool:
        """The object left, or wants to be attached anew; what the goodbye covers is
        done. False: an older life said it, and it covers nothing."""
        if goodbye.epoch < self.epoch:
            return False
        self.epoch = goodbye.epoch
        lives = goodbye.reason in link.AGAIN or goodbye.reason == "behind"
        self.rested = 0 if lives else goodbye.epoch
        return True

    def rename(self, names: Mapping[str, str]) -> None:
        """The gateway's connections have new names: former to new."""
        self.audience.rename(names)
        self.pending.rename(names)
        self.rested = 0
