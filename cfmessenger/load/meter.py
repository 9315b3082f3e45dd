"""What a worker counts and times, second by second.

Owns the counts and the latencies; how well the worker kept up itself is its `Strain`.
Hot paths put microseconds into a plain dict (`Tally`); once a second those become
histograms. What happens before `begin` is the warm-up and is thrown away.
"""

from __future__ import annotations

from collections import Counter

from .result import Histogram, Second, Share
from .strain import Strain
from .ticker import now

Tally = dict[int, int]
"""Microseconds: how often."""


def count_in(tally: Tally, seconds: float) -> None:
    """Put one latency into a tally."""
    us = int(seconds * 1e6)
    tally[us] = tally.get(us, 0) + 1


class Meter:
    """One worker's figures. The tallies stay the same objects from first to last."""

    def __init__(self, max_lag_s: float) -> None:
        self.delivery: Tally = {}
        self.ack: Tally = {}
        self.foreign: Tally = {}  # others' messages: counted, and timed by them
        self.warm_delivery: Tally = {}  # of the warm-up, to be shown and forgotten
        self.warm_ack: Tally = {}
        self.ignored: Tally = {}  # nobody's here
        self.measuring = False
        self.began = now()
        self.counts: Counter[str] = Counter()
        self.histograms: dict[str, Histogram] = {}
        self.series: list[Second] = []
        self.acks: dict[int, str] = {}
        self.sockets = 0
        self.frames = 0  # that sockets got since it counts, and the bytes in them
        self.bytes = 0
        self.strain = Strain(max_lag_s)
        self._before: Counter[str] = Counter()  # the counts when the last second closed

    def begin(self) -> None:
        """The warm-up is over: from here on everything counts."""
        self.measuring = True
        self.began = now()
        # Not `foreign`: another worker may have begun a moment ago.
        self.delivery.clear()
        self.ack.clear()
        # Who is connected is a fact of now, whenever it came to be.
        self.counts = Counter({"connected": self.counts["connected"]})
        self.histograms = {
            name: histogram
            for name, histogram in self.histograms.items()
            if name in ("connect", "first")
        }
        self._before = Counter(self.counts)
        self.frames = self.bytes = 0
        self.strain.begin()

    def record(self, name: str, seconds: float) -> None:
        """One latency of a kind that is rare enough for a histogram of its own."""
        self.histograms.setdefault(name, Histogram()).record(int(seconds * 1e6))

    def error(self, code: str) -> None:
        """The server refused something."""
        self.counts[f"error.{code}"] += 1
        self.counts["errors"] += 1

    def second(self, t: int, *, last: bool = False) -> tuple[Second, str | None]:
        """Closes a second; its figures, and its acks' latencies, encoded.

        `last`: the rest of one, which is none if nothing happened in it.
        """
        ack, delivered, foreign = self.ack, self.delivery, self.foreign
        if not self.measuring:
            ack, delivered, foreign = self.warm_ack, self.warm_delivery, {}
        acks = Histogram()
        for us, count in ack.items():
            acks.record(us, count)
        delivery = self.histograms.setdefault("delivery", Histogram())
        for us, count in delivered.items():
            delivery.record(us, count)
        self.counts["acked"] += acks.count
        self.counts["delivered"] += sum(delivered.values()) + sum(foreign.values())
        warm = (self.warm_ack, self.warm_delivery, self.ignored)
        for tally in (ack, delivered, foreign, *warm):
            tally.clear()
        self.histograms.setdefault("ack", Histogram()).merge(acks)
        new = self.counts - self._before
        self._before = Counter(self.counts)
        second = Second(
            t=t,
            sent=new["sent"],
            acked=new["acked"],
            delivered=new["delivered"],
            errors=new["errors"],
            joined=new["joined"] + new["reconnected"],
            left=new["left"],
            sockets=self.sockets,
            lag_us=self.strain.worst(),
        )
        encoded = None
        if acks.count:
            second.p50_us, second.p99_us = acks.quantiles(0.5, 0.99)
            second.max_us = acks.max
            encoded = acks.encode()
        if self.measuring and (not last or new):
            self.series.append(second)
            if encoded is not None:
                self.acks[t] = encoded
        return second, encoded

    def share(self, worker: int) -> Share:
        """Everything but the verdicts."""
        encoded = {n: h.encode() for n, h in self.histograms.items() if h.count}
        every = self.counts | Counter(frames=self.frames, bytes=self.bytes)
        counts = {name: count for name, count in every.items() if count}
        return Share(
            worker=worker,
            counts=counts,
            histograms=encoded,
            series=self.series,
            acks=self.acks,
        )
