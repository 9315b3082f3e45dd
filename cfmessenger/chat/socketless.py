"""Socketless: safe defaults for the machines of objects in which nobody has a socket.

Owns no rule. A guest's machine says what it does beyond this: what it is told, what its
alarm does, what it keeps.
"""

from ..ids import gateway_of
from .effects import Attachment, Effect


class Socketless:
    """Takes what a shell tells every machine (`actors.kinds.Machine`) and does nothing.

    Without `replay` and `skip` of its own it must append nothing.
    """

    sockets = 0

    def __init__(self) -> None:
        self.epoch = self.previous_epoch = 0  # set by the shell, once loaded
        self.crashed = False  # likewise: the life before left no final mirror
        self.seq = 0  # of the last event
        self.gateways: set[str] = set()  # attached, or remembered from a final mirror
        self.receipts_changed = False  # from a change until the shell has mirrored it
        self.absent: set[str] = set()  # always empty: nobody here is called

    @property
    def alarm_at(self) -> int | None:
        """It waits for nothing."""
        return None

    def events_after(self, seq: int) -> list[bytes] | None:
        """Nobody is shown its log."""
        return []

    def connect(
        self,
        now: int,
        attachment: Attachment,
        since: int | None,
        greeted: bool = False,
    ) -> list[Effect]:
        """No socket belongs here."""
        self.gateways.add(gateway_of(attachment.conn))
        return []

    def message(self, now: int, conn: str, data: bytes, fresh_id: str) -> list[Effect]:
        """No socket belongs here."""
        return []

    def close(self, now: int, conn: str) -> list[Effect]:
        """No socket belongs here."""
        return []

    def attach(
        self, now: int, gateway: str, attachments: list[Attachment]
    ) -> list[Effect]:
        """A gateway has something to tell."""
        self.gateways.add(gateway)
        return []

    def change(self, now: int, attachment: Attachment) -> list[Effect]:
        """Nobody has a socket here."""
        return []

    def missed(self, gateway: str) -> None:
        """There is nothing to miss."""

    def detach(self, now: int, gateway: str) -> list[Effect]:
        """A gateway is dead."""
        self.gateways.discard(gateway)
        return []

    def notify(self, now: int, notification: bytes) -> list[Effect]:
        """It listens to nobody."""
        return []

    def alarm(self, now: int) -> list[Effect]:
        """It waits for nothing."""
        return []

    def replay(self, now: int, epoch: int, seq: int, event: bytes) -> None:
        """What was logged is not needed."""
        self.seq = seq

    def skip(self, seq: int) -> None:
        """Events up to `seq` are missing: their numbers are used."""
        self.seq = seq

    def snapshot(self) -> bytes:
        """It remembers nothing."""
        return b""
