"""What one worker says, and what became of each message.

Owns the ids of messages, who is still to be answered, and to which tally a latency
belongs. What everybody else saw of a message is the oracle's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from .meter import Meter, count_in
from .oracle import Shown
from .plan import Part, Plan
from .seat import Chair, Seat
from .ticker import now


class Sent(msgspec.Struct, gc=False):
    """A message of ours that was not answered yet."""

    seat: Seat
    due: float
    measured: bool
    shown: bool = False
    refused: bool = False


class Talk:
    """`measure_at` is when what is sent begins to count; `on_answered` hears of each
    answer and how long it took."""

    def __init__(self, plan: Plan, part: Part, meter: Meter) -> None:
        self.measure_at = float("inf")
        self.sent: dict[str, Sent] = {}  # by id, until it is answered or refused
        self.prefix = f"{plan.run}-{part.worker}-"
        self.on_answered: Callable[[Sent, float], None] = lambda sent, took: None
        self._meter = meter
        self._run = plan.run
        self._content = "x" * plan.size
        self._numbers = 0
        # Who waits for the next echo of a seat, until it comes.
        self._answers: dict[Seat, asyncio.Future[None]] = {}

    def speak(self, seat: Seat, due: float) -> str:
        """A message that was due at this moment; its id."""
        message_id = self._register(seat, due)
        seat.chat(self._content, message_id)
        return message_id

    def nudge(self, seat: Seat, due: float) -> None:
        """A nudge, likewise."""
        self._meter.counts["nudge"] += 1
        seat.nudge(self._register(seat, due))

    def typing(self, seat: Seat, is_typing: bool) -> None:
        """Somebody starts or stops typing; nobody is owed this."""
        if seat.typing(is_typing):
            self._meter.counts["typing"] += 1

    def _register(self, seat: Seat, due: float) -> str:
        self._numbers += 1
        measured = due >= self.measure_at
        # The others see at once whether it counts.
        message_id = f"{self.prefix}{'m' if measured else 'w'}{self._numbers}"
        self.sent[message_id] = Sent(seat, due, measured)
        self._meter.counts["sent"] += 1  # starts anew when the warm-up is over
        return message_id

    def recognise(self, message_id: str, seq: int, body: bytes) -> tuple[Shown, bool]:
        """A number that is new here; and whether its message had one before."""
        meter, sent = self._meter, self.sent.get(message_id)
        if sent is not None:
            tally = meter.delivery if sent.measured else meter.warm_delivery
            shown = Shown(seq, message_id, body, sent.seat, sent.due, tally)
            repeated, sent.shown = sent.shown, True
            return shown, repeated
        ours = message_id.startswith(f"{self._run}-")
        counts = ours and message_id.rpartition("-")[2].startswith("m")
        tally = meter.foreign if counts else meter.ignored
        shown = Shown(seq, message_id, body, None, now(), tally)
        return shown, message_id.startswith(self.prefix)

    def answered(self, message_id: str) -> None:
        """Its sender has seen the echo."""
        sent = self.sent.pop(message_id, None)
        if sent is None:
            return
        meter = self._meter
        tally = meter.ack if sent.measured else meter.warm_ack
        took = now() - sent.due
        count_in(tally, took)
        self.on_answered(sent, took)
        if (waiting := self._answers.pop(sent.seat, None)) and not waiting.done():
            waiting.set_result(None)

    def refused(self, message_id: str, code: str) -> None:
        """The server will not have it."""
        if code == "STORAGE_UNAVAILABLE":  # "it may still appear, once"
            self.sent[message_id].refused = True
        else:
            self.sent.pop(message_id, None)

    def unanswered(self) -> list[Sent]:
        """What was sent and neither echoed nor refused."""
        return [sent for sent in self.sent.values() if not sent.refused]

    def answer(self, seat: Seat) -> asyncio.Future[None]:
        """Done when the next echo of this seat comes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[seat] = future
        return future

    def give_up(self, seat: Chair) -> None:
        """What a seat said and was not answered never will be."""
        for message_id in seat.waiting:
            self.sent[message_id].refused = True
