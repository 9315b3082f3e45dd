"""Latencies in a high dynamic range histogram, in microseconds.

Owns the range (1 us to 10 min, 3 significant digits), recording and quantiles;
`hdrhistogram` owns the counts, their addition and the V2 encoding, which any other HDR
tool reads. Recording is on the load generator's hot path, so the bucket is computed
here: the library's own way takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

LOWEST_US = 1
HIGHEST_US = 600_000_000
DIGITS = 3

# With 3 digits a bucket has 2,048 slots, and each next one doubles the width of a slot.
_SLOT_BITS = 11
_HALF_BITS = _SLOT_BITS - 1


class HistogramData(msgspec.Struct, kw_only=True, rename="camel"):
    """A histogram as a result file holds it: its figures, and all of it encoded.

    Everything is in `unit`; with `count` 0 the other figures are 0 and mean nothing.
    `hdr` is the base64 of the compressed HDR V2 encoding.
    """

    unit: str = "us"
    count: int = 0
    min: int = 0
    mean: float = 0.0
    p50: int = 0
    p90: int = 0
    p95: int = 0
    p99: int = 0
    p999: int = 0
    max: int = 0
    hdr: str = ""

    def histogram(self) -> Histogram:
        """The histogram itself; ValueError if `hdr` cannot be read."""
        return Histogram.decode(self.hdr) if self.hdr else Histogram()


class Histogram:
    """Counts of microseconds. Values beyond the range are recorded at its end."""

    __slots__ = ("_counts", "_hdr")

    def __init__(self) -> None:
        self._hdr: Any = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self._counts: Any = self._hdr.counts

    def record(self, us: int, count: int = 1) -> None:
        """Count `us`, an integer, `count` times."""
        us = LOWEST_US if us < LOWEST_US else HIGHEST_US if us > HIGHEST_US else us
        bucket = us.bit_length() - _SLOT_BITS
        if bucket < 0:
            bucket = 0
        self._counts[(bucket << _HALF_BITS) + (us >> bucket)] += count
        hdr = self._hdr
        hdr.total_count += count
        if us > hdr.max_value:
            hdr.max_value = us
        if us < hdr.min_value:
            hdr.min_value = us

    def merge(self, other: Histogram) -> None:
        """Add all that `other` has counted."""
        # The library takes an empty histogram's minimum for 0 and would keep it.
        if other.count:
            self._hdr.add(other._hdr)

    @property
    def count(self) -> int:
        return int(self._hdr.total_count)

    @property
    def min(self) -> int:
        """The smallest value, to 3 digits, rounded down; 0 of nothing."""
        return int(self._hdr.get_min_value())

    @property
    def max(self) -> int:
        """The largest value, to 3 digits, rounded up; 0 of nothing."""
        return int(self._hdr.get_max_value())

    @property
    def mean(self) -> float:
        if not self.count:
            return 0.0
        total = sum((low + high) / 2 * n for low, high, n in self.slots())
        return total / self.count

    def slots(self) -> Iterator[tuple[int, int, int]]:
        """Each slot that counted something, ascending: lowest, highest value, count."""
        if not self.count:
            return
        last = _slot(self._hdr.max_value)
        for index, count in enumerate(self._counts[_slot(self._hdr.min_value) :]):
            if count:
                slot = index + _slot(self._hdr.min_value)
                bucket = max(0, (slot >> _HALF_BITS) - 1)
                low = (slot - (bucket << _HALF_BITS)) << bucket
                yield low, low + (1 << bucket) - 1, count
                if slot >= last:
                    return

    def quantile(self, q: float) -> int:
        """The smallest recorded value that at least `q` (0 to 1) of all do not exceed.

        Rounded up to 3 digits; 0 of nothing.
        """
        return self.quantiles(q)[0]

    def quantiles(self, *qs: float) -> list[int]:
        """`quantile` of each of `qs`, in their order, in one pass."""
        found = [self.max] * len(qs)
        # Less an ulp or so: 0.999 of 1,000 values is the 999th, not the 1,000th.
        ranks = [(max(1.0, q * self.count * (1 - 1e-12)), i) for i, q in enumerate(qs)]
        waiting = sorted(ranks, reverse=True)
        seen = 0
        for _, high, count in self.slots():
            seen += count
            while waiting and seen >= waiting[-1][0]:
                found[waiting.pop()[1]] = high
            if not waiting:
                break
        return found

    def encode(self) -> str:
        """The base64 of the compressed V2 encoding; `decode` reads it."""
        encoded: bytes = self._hdr.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, encoded: str) -> Histogram:
        """What `encode` gave; ValueError if it is not that."""
        histogram = cls()
        try:
            read = HdrHistogram.decode(encoded)
            if read.get_total_count():
                histogram._hdr.add(read)
        except Exception as error:  # the library's own, ctypes', zlib's, base64's
            raise ValueError(f"not an HDR histogram: {error!r}") from error
        return histogram

    def data(self) -> HistogramData:
        """The histogram as a result file holds it."""
        p50, p90, p95, p99, p999 = self.quantiles(0.5, 0.9, 0.95, 0.99, 0.999)
        return HistogramData(
            count=self.count,
            min=self.min,
            mean=self.mean,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            max=self.max,
            hdr=self.encode(),
        )


def _slot(us: int) -> int:
    bucket = max(0, int(us).bit_length() - _SLOT_BITS)
    return (bucket << _HALF_BITS) + (us >> bucket)
