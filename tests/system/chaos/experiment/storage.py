"""Valkey is killed and restarted under load: refused was shown to nobody, the rest is
all there."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import scene

ROOMS = 4
SEATS = 10
ROUNDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP)
FROZEN_S = 6.5


async def run(seed: int) -> bool:
    async with scene(20, seed, CFM_GATEWAYS="2") as s:
        for number in range(ROOMS):
            for seat in range(SEATS):
                n = (5 * number + seat) % 20
                name = f"r{number}.{seat}"
                await s.chatter(name, n, f"room-{number}", retries=seat % 2 == 0)
        await s.connected()
        s.say(f"{len(s.chatters)} sockets on {await s.split()}, 200 msg/s")
        talk = s.talk(s.chatters, 200.0)
        await asyncio.sleep(3.0)
        marks = []
        for number in ROUNDS:
            row = s.messenger.child("valkey")
            while row is None:
                await asyncio.sleep(0.05)
                row = s.messenger.child("valkey")
            t = time.monotonic()
            s.messenger.send(row, number)
            if number == signal.SIGSTOP:
                await asyncio.sleep(FROZEN_S)
                s.messenger.send(row, signal.SIGCONT)
            marks.append(t)
            kind = f"valkey {signal.Signals(number).name}"
            s.history.add(h.Fault(t, time.monotonic(), kind, str(row.pid)))
            await asyncio.sleep(5.0)
        talk.cancel()
        s.expect(await s.settled(), "not everything was answered")
        await s.read_logs()
        for t, number in zip(marks, ROUNDS, strict=True):
            name = signal.Signals(number).name
            s.say(f"{name:<8} longest wait for an echo {s.pauses([t], 4.0)}")
        _refused(s.history, s.say)
        found = s.verdict()
        s.expect(not found, "the checker's verdict")
        return not s.failed


def _refused(history: h.History, say: object) -> None:
    """What became of the refused: never, or later, once."""
    assert callable(say)
    logged = {(r, e.id) for r, log in history.logs.items() for e in log}
    refused = {(no.room, no.id): no.code for no in history.all(h.Refused)}
    written = Counter((w.client, w.id) for w in history.all(h.Written))
    clients = {i.id: i.client for i in history.all(h.Invoke)}
    again = sum(written[clients[i], i] > 1 for _, i in refused)
    appeared = sum(key in logged for key in refused)
    quiet = sum(
        key in logged and written[clients[key[1]], key[1]] == 1 for key in refused
    )
    codes = dict(Counter(refused.values()))
    say(
        f"refused {codes or 'nothing'}: {again} asked again with the same id; in the "
        f"logs by now {appeared}, {quiet} of them without being asked again"
    )
