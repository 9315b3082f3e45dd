"""`python -m tests.bench.presence`: what a crowd costs on presence sockets.

The registry and one gateway, as they are but for sockets: what passes between them goes
through the link's frames, what a client says through the reader of its frames, and what
a socket is sent is counted, headers included. Time is played, so that a busy machine
changes nothing but the CPU times, which are this process's own. All come within
`--within` seconds and watch `--watched` others; then `--churn` percent of them in a
minute change their status, or leave and come back.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psutil

from actors.gates import Step
from actors.release import Release, Seat, Seating
from cfmessenger.chat.effects import Attachment, Effect
from cfmessenger.chat.machine import Life
from cfmessenger.chat.presence import Presence
from cfmessenger.ids import PRESENCE, connection_id
from cfmessenger.link import messages as link
from cfmessenger.link.arrivals import ROUND_S
from cfmessenger.link.onlookers import Onlookers, Write
from cfmessenger.wire import protocol

GATEWAY = "g"
TICK_MS = 50
SYNCS_A_TICK = 200

encode = msgspec.json.Encoder().encode


class Scene:
    """The registry, and a gateway with its presence sockets; `now` is played, in ms."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.cpu_s: Counter[str] = Counter()  # of registry and gateway
        self.sent: Counter[str] = Counter()  # bytes, by connection
        self.link_bytes = 0
        self._presence = Presence(Life(1))
        self._crowd: Onlookers[str] = Onlookers(lambda user_id: user_id)
        self._seat = Seat(self, 0, 0)
        self._release = Release({GATEWAY: self._seat}, lambda effect, gateway: None)
        self._to_actor, self._to_gateway = link.actor_reader(), link.gateway_reader()
        self._inputs: list[link.Input] = []
        self._frames: list[bytes] = []
        self._n = 0
        self._round_ms = 0  # since somebody is held back, or since the last round
        self._show([Seating(self._seat, (), 0)])

    @contextmanager
    def _spends(self, who: str) -> Iterator[None]:
        began = time.process_time()
        try:
            yield
        finally:
            self.cpu_s[who] += time.process_time() - began

    # Sockets.

    def come(self, conn: str, user_id: str, watched: list[str]) -> None:
        """A socket is opened, and says at once whom it watches."""
        said = encode({"type": "watch", "userIds": watched})
        with self._spends("gateway"):
            words = "listening to music", "star"
            who = Attachment(conn, user_id, user_id, "online", False, True, *words)
            self._push(link.Opened(self._number(), who, None, False))
            self._crowd.enter(conn, user_id, ())
            if watched:
                frame = protocol.for_gateway(said, registry=True)
                assert isinstance(frame, protocol.Watch)
                self._write(self._crowd.watch(conn, frame.user_ids))

    def go(self, conn: str) -> None:
        with self._spends("gateway"):
            self._crowd.leave(conn)
            self._push(link.Closed(self._number(), conn))

    def choose(self, conn: str, status: str) -> None:
        said = encode({"type": "presence_update", "status": status})
        self._push(link.Said(self._number(), conn, said))

    def _number(self) -> int:
        self._n += 1
        return self._n

    def _push(self, entry: link.Input) -> None:
        self._inputs.append(entry)

    # Every 50 ms.

    def tick(self, sweeping: bool) -> None:
        with self._spends("gateway"):
            if sweeping:
                self._crowd.sweep()
            wants = self._crowd.wanted.leaving()
            raw = link.frame(link.Inputs(PRESENCE, self._inputs, 0, wants))
            self._inputs = []
        self.link_bytes += len(raw)
        with self._spends("registry"):
            for message in self._to_actor.feed(raw):
                assert isinstance(message, link.Inputs)
                self._take(message)
            self.now += TICK_MS
            self._show(self._presence.alarm(self.now))
        with self._spends("gateway"):
            for frame in self._frames:
                for output in self._to_gateway.feed(frame):
                    assert isinstance(output, link.Output)
                    self._hear(output)
            self._frames = []
            self._write(self._crowd.resync(SYNCS_A_TICK))
            self._round_ms = self._round_ms + TICK_MS if self._crowd.holds_back else 0
            if self._round_ms >= ROUND_S * 1000:
                self._round_ms = 0
                self._write(self._crowd.calm())

    def _take(self, message: link.Inputs) -> None:
        effects: list[Effect] = []
        for entry in message.inputs:
            if isinstance(entry, link.Opened):
                effects += self._presence.connect(self.now, entry.attachment)
            elif isinstance(entry, link.Closed):
                effects += self._presence.close(self.now, entry.conn)
            elif isinstance(entry, link.Said):
                effects += self._presence.message(self.now, entry.conn, entry.data)
        if message.wants is not None:
            self._presence.want(self.now, GATEWAY, message.wants)
        self._show(effects)

    def _show(self, effects: list[Effect] | list[Seating]) -> None:
        self._release.run(PRESENCE, 1, [Step(tuple(effects), None, 0)])

    @property
    def gateway(self) -> str:
        return GATEWAY

    def send(self, message: link.ToGateway) -> None:
        frame = link.frame(message)
        self.link_bytes += len(frame)
        self._frames.append(frame)

    def _hear(self, output: link.Output) -> None:
        for item in output.items:
            if isinstance(item, link.People):
                self._write(self._crowd.told(item.news))
            elif isinstance(item, link.ToSockets):
                for conn in item.conns:
                    self.sent[conn] += len(item.blob)

    def _write(self, writes: list[Write[str]]) -> None:
        for conns, frames in writes:
            blob = b"".join(map(link.text_frame, frames))
            for conn in conns:
                self.sent[conn] += len(blob)


def measure(people: int, watched: int, within_s: float, churn: float) -> None:
    """One row."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    scene = Scene()
    conns = [connection_id(GATEWAY, n) for n in range(people)]
    users = [f"user_{n}" for n in range(people)]
    near = [
        [users[(n + k) % people] for k in range(1, watched + 1)] for n in range(people)
    ]
    ticks, came = int(within_s * 1000 / TICK_MS), 0
    for tick in range(ticks + 100):
        upto = min(people, people * (tick + 1) // ticks)
        for n in range(came, upto):
            scene.come(conns[n], users[n], near[n])
        came = upto
        scene.tick(sweeping=tick % 20 == 0)
    sizes = [scene.sent[conn] for conn in conns]
    first, rest = sizes[:600], sizes[600:] or [0]
    out(f"{people:,} sockets within {within_s:g} s, each watches {watched}")
    out(
        f"  bytes a socket: mean {statistics.mean(sizes):,.0f}; "
        f"the first 600 {statistics.mean(first):,.0f}, most {max(first):,}; "
        f"the others {statistics.mean(rest):,.0f}, most {max(rest):,}"
    )
    spent(scene, "their coming")
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    out(f"  memory of both: {grown:.0f} MiB more")
    changes = int(people * churn / 100)
    for tick in range(1200):
        for k in range(changes * tick // 1200, changes * (tick + 1) // 1200):
            n = (k * 7919) % people
            if k % 2:
                scene.choose(conns[n], ("busy", "away")[k // 2 % 2])
            else:
                scene.go(conns[n])
                conns[n] = connection_id(GATEWAY, people + k)
                scene.come(conns[n], users[n], near[n])
        scene.tick(sweeping=tick % 20 == 0)
    each = (sum(scene.sent.values()) - sum(sizes)) / people
    out(f"  a minute in which {churn:g} % change: {each:,.0f} bytes a socket")
    spent(scene, "that minute")


def spent(scene: Scene, what: str) -> None:
    registry, gateway = scene.cpu_s["registry"], scene.cpu_s["gateway"]
    out(
        f"  CPU of {what}: registry {registry:.2f} s, gateway {gateway:.2f} s; "
        f"{scene.link_bytes / 2**20:.1f} MiB on the link"
    )
    scene.cpu_s.clear()
    scene.link_bytes = 0


def out(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[4000, 10_000])
    parser.add_argument("--watched", type=int, nargs="+", default=[0, 50])
    parser.add_argument("--within", type=float, default=10.0)
    parser.add_argument("--churn", type=float, default=1.0, help="percent a minute")
    told = parser.parse_args()
    for people in told.people:
        for watched in told.watched:
            measure(people, watched, told.within, told.churn)


if __name__ == "__main__":
    main()
