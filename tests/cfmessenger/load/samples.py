"""Results to show and to judge, made without a server."""

import random

from cfmessenger.load.result import (
    Health,
    Histogram,
    Host,
    Oracle,
    Process,
    Result,
    Second,
    Server,
)


def result(
    *, seed: int = 1, seconds: int = 60, slower: float = 1.0, **changes: object
) -> Result:
    """A plausible result of a steady test; `slower` multiplies every latency."""
    chance = random.Random(seed)
    ack, delivery, connect = Histogram(), Histogram(), Histogram()
    series = []
    for t in range(seconds):
        now = Histogram()
        busy = 3.0 if t % 20 == 17 else 1.0
        for _ in range(100):
            us = int(2_000 * slower * busy * chance.lognormvariate(0, 0.4))
            now.record(us)
            delivery.record(us + chance.randrange(400), 10)
        ack.merge(now)
        p50, p99 = now.quantiles(0.5, 0.99)
        series.append(
            Second(
                t=t,
                sent=1_000,
                acked=1_000 - t % 3,
                delivered=10_000 - 10 * (t % 3),
                sockets=200,
                p50_us=p50,
                p99_us=p99,
                max_us=now.max,
                lag_us=chance.randrange(50, 900),
            )
        )
    for _ in range(200):
        connect.record(int(8_000 * chance.lognormvariate(0, 0.3)))
    acked = sum(second.acked for second in series)
    whole = Result(
        scenario="steady",
        url="http://127.0.0.1:8000",
        started_at="2026-03-01T12:00:00Z",
        duration_s=float(seconds),
        warmup_s=5.0,
        workers=2,
        settings={"rooms": 10, "sockets": 200, "rate": 1000, "sizeBytes": 64},
        host=Host(
            name="bench-1",
            cpus=8,
            model="Example 3 GHz",
            memory_bytes=16 * 2**30,
            kernel="6.1.0",
            python="3.11.7",
        ),
        versions={"cfmessenger": "0.3.0", "valkey": "9.1.2"},
        counts={
            "sent": 1_000 * seconds,
            "acked": acked,
            "delivered": 10 * acked,
            "connected": 200,
        },
        rates={
            "sent": 1_000.0,
            "acked": acked / seconds,
            "delivered": 10 * acked / seconds,
        },
        histograms={
            "ack": ack.data(),
            "delivery": delivery.data(),
            "connect": connect.data(),
        },
        series=series,
        oracle=Oracle(checked_sockets=200, checked_rooms=10),
        health=Health(max_lag_us=880, cpu_share=0.42, loop_lag_us=600),
        server=Server(
            cpu_s=31.0,
            cpu_us_per_delivery=52.0,
            cpu_us_per_message=520.0,
            kib_per_socket=14.2,
            memory_bytes=220 * 2**20,
            processes=[
                Process(
                    pid=4711,
                    name="cfmessenger gateway",
                    user=0.41,
                    system=0.12,
                    waited=0.03,
                    threads={"uvloop": 0.5, "log": 0.03},
                ),
                Process(pid=4712, name="valkey-server", user=0.1, system=0.2),
            ],
            machine=0.37,
        ),
    )
    for name, value in changes.items():
        setattr(whole, name, value)
    return whole
