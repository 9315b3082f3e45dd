"""Machine: what the machines of all objects have in common.

Owns the verbs by which a shell (`actors/activation.py`) drives them, with a safe
default for each: an object in which nobody has a socket, and which logs nothing that it
would need again, says only what it does beyond this. Must not know any kind of object.
"""

from typing import Final, Self

import msgspec
from msgspec.structs import replace

from ..ids import gateway_of
from .effects import Attachment, Effect, Wants
from .holders import Holders


class Life(msgspec.Struct, frozen=True, gc=False):
    """Which life of its object a machine is, as it is told at its birth.

    `epoch`: the fencing token; 0: none is taken. `previous_epoch`: of the life before;
    0: there was none. `crashed`: that life left no final mirror.
    """

    epoch: int = 0
    previous_epoch: int = 0
    crashed: bool = False

    @property
    def unremembered(self) -> Self:
        """The same where nobody can read what the life before has left: as after a
        crash, for who held sockets then is not known."""
        return replace(self, crashed=self.previous_epoch > 0)


BLANK = Life()
"""Of a machine that stands in until its object is loaded."""


class Machine:
    """One life of an object. `now` is integer ms since 1970.

    Verbs return effects in the order in which they are to be seen.
    """

    def __init__(self, life: Life = BLANK) -> None:
        self.epoch: Final = life.epoch
        self.previous_epoch: Final = life.previous_epoch
        self.crashed: Final = life.crashed
        self.seq = 0  # of the last event; rises with each
        # From a change that is worth a live mirror until the shell has made one.
        self.receipts_changed = False
        self.holders = Holders()

    @property
    def gateways(self) -> set[str]:
        """Whose sockets are in its roster, or were when it went to sleep."""
        return self.holders.gateways

    @property
    def absent(self) -> set[str]:
        """Gateways that the mirror names, until `give_up`; the shell takes out the
        dead."""
        return self.holders.absent

    @property
    def sockets(self) -> int:
        """How many connections are in its roster."""
        return 0

    @property
    def alarm_at(self) -> int | None:
        """When `alarm` wants to be called, in ms; None: no timer is running."""
        return None

    def events_after(self, seq: int) -> list[bytes] | None:
        """The events after `seq` as they went into the log, to be shown; None if it no
        longer has them all."""
        return []

    # What gateways tell.

    def connect(
        self,
        now: int,
        attachment: Attachment,
        since: int | None,
        greeted: bool = False,
        era: int | None = None,
    ) -> list[Effect]:
        """A socket opens. It was shown everything up to `since`; None: nothing. One
        that comes again after a `Behind` was `greeted`. `era`: of what it was shown, if
        it says that."""
        self.gateways.add(gateway_of(attachment.conn))
        return []

    def message(self, now: int, conn: str, data: bytes, fresh_id: str) -> list[Effect]:
        """A socket sent `data`; `fresh_id` is its id if it brings none."""
        return []

    def close(self, now: int, conn: str) -> list[Effect]:
        """A socket is gone."""
        return []

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway tells which sockets it holds: `attachments` is its whole set."""
        self.holders.attach(gateway)
        return []

    def change(self, now: int, attachment: Attachment) -> list[Effect]:
        """A gateway has newer words of somebody, or a newer status."""
        return []

    def want(self, now: int, gateway: str, wants: Wants) -> None:
        """A gateway's sockets want to hear of these people; `alarm` answers it."""

    def missed(self, gateway: str) -> None:
        """A gateway did not hear the goodbye of the life before: it may have missed
        something of it."""
        self.holders.missed(gateway)

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead, and so are its sockets."""
        self.holders.detach(gateway)
        return []

    def give_up(self, now: int) -> list[Effect]:
        """All that were `absent` have come, or are not waited for any longer."""
        self.holders.give_up()
        return []

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """Another object or a gateway tells something. What is not understood comes
        from another release, and is passed over."""
        return []

    def alarm(self, now: int) -> list[Effect]:
        """Do what is due. Early calls do nothing."""
        return []

    # The log, sleep and wake.

    def replay(self, now: int, epoch: int, seq: int, event: bytes) -> None:
        """Take an event of the log above `seq`, in order, before any other verb."""
        self.seq = seq

    def skip(self, seq: int) -> None:
        """Events up to `seq` are missing, or left out: their numbers are used."""
        self.seq = seq

    def lost(self, now: int, first: int, last: int) -> bytes | None:
        """The event that tells people of what storage has lost for good, from `first`
        to `last`: its number is the next, and it is given to `replay` once the log has
        it. None: nobody here is told."""
        return None

    def recollect(self, snapshot: bytes) -> None:
        """What a snapshot knew that is older than the one of which this was made: it
        had been put aside, for who ran in between could not read it."""

    def snapshot(self) -> bytes:
        """All that the next life is to know, at rest."""
        return b""
