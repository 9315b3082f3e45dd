"""`python -m tests.bench.crowd`: thousands come into one group room within seconds.

Starts a messenger of its own whose users are as many as come (limits lifted), signs
them in, and lets each open one socket, evenly over the time. Somebody is in with their
first `participants`. Prints how long that took, what each socket was sent until the
last tick had told everybody, how many were closed, and what CPU each kind of process
took.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.bench import machine
from tests.bench.loader import STEP_S, Broken, a_room
from tests.bench.meter import Meter, our_kind
from tests.bench.ours import log_in, socket_urls, up

TOLD_S = 11.0
"""Two ticks of a vast crowd, and a little: by then everybody is told of the last."""
_TYPE = len(b'{"type":"participants"')
_LISTS = b'{"type":"participants"'
_LINES = b'{"type":"system"'
_CHAT = b'{"type":"chat"'


class Guest(WSListener):
    """One socket, which says nothing and counts."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.dialled = time.perf_counter()
        self.in_at = 0.0  # from its first `participants` on
        self.heard_at = 0.0  # from the first chat on
        self.frames = self.bytes = 0
        self.lists, self.lines = [0, 0], [0, 0]  # of these frames, and their bytes
        self.closed = False
        self.transport: WSTransport | None = None  # from the end of its handshake

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_memoryview()
        self.frames += 1
        self.bytes += len(payload)
        kind = bytes(payload[:_TYPE])
        if kind.startswith(_CHAT):
            self.heard_at = self.heard_at or time.perf_counter()
        elif kind.startswith(_LINES):
            self.lines[0] += 1
            self.lines[1] += len(payload)
        elif kind == _LISTS:
            self.lists[0] += 1
            self.lists[1] += len(payload)
            if not self.in_at:
                self.in_at = time.perf_counter()
                self.hall.came()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = True


class Hall:
    """All who come. `full` is set when the last is in."""

    def __init__(self, people: int) -> None:
        self.missing = people
        self.full = asyncio.Event()
        self.guests: list[Guest] = []
        self.refused: Counter[str] = Counter()

    def came(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.full.set()

    async def come(self, url: str, at: float) -> None:
        await asyncio.sleep(at - time.perf_counter())
        guest = Guest(self)
        self.guests.append(guest)
        try:
            await ws_connect(
                lambda: guest,
                url,
                websocket_handshake_timeout=STEP_S,
                read_buffer_init_size=4096,
            )
        except Exception as error:  # counted: whoever did not come in is a finding
            self.refused[repr(error)[:80]] += 1
        else:
            if guest.transport is None:  # picows raises nothing then
                self.refused["hung up in the handshake"] += 1


async def measure(people: int, within_s: float, gateways: int) -> dict[str, object]:
    async with up("auto", people, CFM_GATEWAYS=str(gateways)) as it:
        tokens = await asyncio.to_thread(log_in, it.base, people)
        url, room = socket_urls(it.base, tokens), a_room()
        urls = [url(room, n) for n in range(people)]
        return await _come(Meter([it.row.pid], our_kind), urls, within_s)


async def _come(meter: Meter, urls: list[str], within_s: float) -> dict[str, object]:
    hall, before = Hall(len(urls)), meter.read()
    began = time.perf_counter()
    step = within_s / len(urls)
    coming = [
        asyncio.create_task(hall.come(url, began + n * step))
        for n, url in enumerate(urls)
    ]
    await asyncio.gather(*coming)
    try:
        async with asyncio.timeout(60):
            await hall.full.wait()
    except TimeoutError:
        sys.stderr.write(f"{hall.missing} are not in: {dict(hall.refused)}\n")
    here = [each for each in hall.guests if each.in_at]
    if not here:
        raise Broken("nobody came in")
    came = {k: round(v, 1) for k, v in meter.read().spent_s(before).items()}
    await asyncio.sleep(TOLD_S)
    frames = [each.frames for each in hall.guests]
    sizes = [each.bytes / 1024 for each in hall.guests]
    waits = [each.in_at - each.dialled for each in here]
    lists = sum(each.lists[0] for each in hall.guests) / len(urls)
    most = max(hall.guests, key=lambda each: each.bytes)
    said = time.perf_counter()
    talker = here[0].transport
    assert talker is not None
    talker.send(WSMsgType.TEXT, b'{"type":"chat","content":"hello all"}')
    await asyncio.sleep(2.0)
    heard = [each.heard_at - said for each in hall.guests if each.heard_at]
    figures = {
        "in_s": round(max(each.in_at for each in here) - began, 2),
        "not_in": f"{hall.missing} {dict(hall.refused) or ''}",
        "closed": sum(each.closed for each in hall.guests),
        "wait_p50_s": round(statistics.median(waits), 3),
        "wait_max_s": round(max(waits), 3),
        "frames": f"{statistics.mean(frames):.1f} (max {max(frames)})",
        "lists": round(lists, 2),
        "KiB": f"{statistics.mean(sizes):.0f} (max {max(sizes):.0f})",
        "of the most": f"{_part(most.lists)} lists, {_part(most.lines)} lines",
        "heard": f"{len(heard)} in {max(heard, default=0.0):.3f} s",
        "cpu_s": came,
    }
    for each in hall.guests:
        if not each.closed and each.transport is not None:
            each.transport.disconnect()
    return figures


def _part(of: list[int]) -> str:
    return f"{of[1] / 1024:.0f} KiB in {of[0]}"


def _lines(figures: dict[str, object]) -> Iterator[str]:
    for name, value in figures.items():
        yield f"{name:12} {value}"


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.crowd", None, __doc__)
    parser.add_argument("--people", type=int, default=5_000)
    parser.add_argument("--within", type=float, default=10.0)
    parser.add_argument("--gateways", type=int, default=1)
    options = parser.parse_args()
    figures = asyncio.run(measure(options.people, options.within, options.gateways))
    print("\n".join([f"{machine.facts()}", *_lines(figures)]))  # noqa: T201


if __name__ == "__main__":
    main()
