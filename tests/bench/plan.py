"""What is measured: the rows, their sizes, and what is said about each figure. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Sizes = dict[str, float]

MANY: Sizes = {"rooms": 50, "per_room": 4, "slice_s": 1.0, "seconds": 6.0}

FULL: dict[str, Sizes] = {
    "fanout": {"sockets": 200, "window": 8, "slice_s": 0.5, "seconds": 4.0},
    "full": MANY | {"rate": 12_000},
    "paced": MANY | {"rate": 1500},
    "calm": MANY | {"rate": 200},
    "idle": {"sockets": 2000, "before": 500, "quiet_s": 2.0, "rest_s": 10.0},
    "gather": {"sockets": 500, "within_s": 10.0, "people": 500},
    "crowd": {"people": 600, "within_s": 5.0},
    "open": {"rooms": 200, "within_s": 1.0, "people": 40},
    "wake": {"rooms": 200, "pause_s": 0.0, "sleep_s": 14.0, "quiet_s": 2.0},
}

# Eight processes, at a pace at which those kept ready can be replaced.
WAKE_OF_PROCESSES: Sizes = {"rooms": 8, "pause_s": 1.5}
OPEN_OF_PROCESSES: Sizes = {"rooms": 8, "within_s": 8.0}

QUICK: dict[str, Sizes] = {
    "fanout": {"sockets": 100, "window": 8, "slice_s": 0.25, "seconds": 1.0},
    "idle": {"sockets": 300, "before": 50, "quiet_s": 0.5, "rest_s": 1.0},
}
QUICK_CONTESTANTS = ("auto", "workerd", "node-ws", "channels")

NEEDS_PRESENCE = ("crowd",)


def sizes(
    plan: dict[str, Sizes], row: str, *, sleeps: bool, room_process: bool
) -> Sizes:
    """What a row asks of a contestant: nobody waits for a sleep that never comes."""
    chosen = plan[row]
    if row == "open" and room_process:
        chosen = chosen | OPEN_OF_PROCESSES
    if row == "wake":
        chosen = chosen | (WAKE_OF_PROCESSES if room_process else {})
        chosen = chosen if sleeps else chosen | {"sleep_s": 0.0}
    return chosen


@dataclass(frozen=True)
class Row:
    """A table of the page: one paragraph, and sizes from the plan filled in."""

    key: str
    title: str
    text: str


@dataclass(frozen=True)
class Figure:
    """A column. Ratios are taken of those where less is better and a peer has some."""

    row: str
    key: str
    title: str
    short: str = ""
    less_is_better: bool = True


ROWS = (  # in the order of the page
    Row(
        "fanout",
        "One busy room",
        "One room of {sockets:.0f} sockets as fast as it goes: {window:.0f} messages "
        "are in flight all the time, for {seconds:.0f} s. The loader shares the "
        "machine, so CPU time says more than deliveries a second.",
    ),
    Row(
        "paced",
        "Many rooms, busy",
        "{rooms:.0f} rooms of {per_room:.0f} sockets, {rate:,.0f} messages a second "
        "over all of them for {seconds:.0f} s, whether the server keeps up or not. "
        "Latency counts from when a message should have gone; who falls behind has "
        "none, and is measured with half a second's worth of messages under way.",
    ),
    Row(
        "full",
        "Many rooms, as busy as can be",
        "The same at {rate:,.0f} messages a second: who cannot keep up shows what it "
        "can do when both cores, which it shares with the loader, are full.",
    ),
    Row(
        "calm",
        "Many rooms, calm",
        "The same at {rate:,.0f} messages a second: little is batched, and what a "
        "server does besides is in the figure.",
    ),
    Row(
        "idle",
        "Idle sockets",
        "{sockets:,.0f} sockets of one room that say nothing, in a fresh process "
        "beyond {before:.0f} that made its heap grow. A garbage-collected heap grows "
        "in steps: a process that has served more before needs less for each. At "
        "rest is with all of them connected. So many joins make the room hot: with "
        "automatic placement it gets a process of its own meanwhile, whose 44 MiB are "
        "in the figure.",
    ),
    Row(
        "gather",
        "A room that fills",
        "{sockets:,.0f} people come into one room within {within_s:.0f} s. All are in "
        "when each of them has a line that was said after the last had come; what a "
        "socket gets until nobody is told anything any more is the price of saying who "
        "is there, which only ours does.",
    ),
    Row(
        "crowd",
        "A crowd comes online",
        "{people:,.0f} people open a presence socket within {within_s:.0f} s, and each "
        "is told who is online. No peer has that.",
    ),
    Row(
        "open",
        "Conversations at once",
        "{rooms:.0f} rooms of two begin within {within_s:.0f} s (8 within 8 s where a "
        "room is a process), ours as direct rooms: from when one was due to the first "
        "echo in it. Refused is who was told to come again, and did.",
    ),
    Row(
        "wake",
        "Sleep and wake",
        "{rooms:.0f} rooms of one socket (8 where a room is a process): from the dial "
        "to the first echo in a room that never was; its memory, socket included; "
        "and the echo of the first word after {sleep_s:.0f} s of silence, for rooms "
        "that sleep.",
    ),
)

FIGURES = (
    Figure("fanout", "cpu_us_per_delivery", "CPU a delivery (µs)", "one busy room"),
    Figure("fanout", "deliveries_per_s", "deliveries a second", less_is_better=False),
    Figure("paced", "cpu_us_per_message", "CPU a message (µs)", "many rooms, busy"),
    Figure("paced", "messages_per_s", "messages a second", less_is_better=False),
    Figure("paced", "p50_ms", "latency p50 (ms)"),
    Figure("paced", "p99_ms", "latency p99 (ms)", "many rooms, busy"),
    Figure("full", "cpu_us_per_message", "CPU a message (µs)", "at 12,000/s"),
    Figure("full", "messages_per_s", "messages a second", less_is_better=False),
    Figure("full", "p50_ms", "latency p50 (ms)"),
    Figure("full", "p99_ms", "latency p99 (ms)"),
    Figure("calm", "cpu_us_per_message", "CPU a message (µs)", "many rooms, calm"),
    Figure("calm", "messages_per_s", "messages a second", less_is_better=False),
    Figure("calm", "p50_ms", "latency p50 (ms)"),
    Figure("calm", "p99_ms", "latency p99 (ms)", "many rooms, calm"),
    Figure("idle", "kib_per_socket", "memory a socket (KiB)", "idle"),
    Figure("idle", "cpu_ms_per_accept", "CPU an accept (ms)", "idle"),
    Figure("idle", "cpu_percent_at_rest", "CPU at rest (% of a core)", "idle"),
    Figure("gather", "all_in_s", "all in after (s)"),
    Figure("gather", "cpu_ms_per_person", "CPU a socket (ms)"),
    Figure("gather", "kib_per_person", "KiB a socket"),
    Figure("gather", "frames_per_person", "frames a socket"),
    Figure("gather", "closed", "closed"),
    Figure("crowd", "all_in_s", "all in after (s)"),
    Figure("crowd", "cpu_ms_per_person", "CPU a person (ms)"),
    Figure("crowd", "kib_per_person", "KiB a socket"),
    Figure("crowd", "frames_per_person", "frames a socket"),
    Figure("open", "new_p50_ms", "new room p50 (ms)"),
    Figure("open", "new_p99_ms", "new room p99 (ms)", "conversations at once"),
    Figure("open", "cpu_ms_per_room", "CPU a room (ms)"),
    Figure("open", "refused", "refused"),
    Figure("wake", "new_p50_ms", "new room p50 (ms)"),
    Figure("wake", "woken_p50_ms", "woken p50 (ms)", "sleeping room"),
    Figure("wake", "woken_p99_ms", "woken p99 (ms)"),
    Figure("wake", "kib_per_room", "memory a room (KiB)", "one socket in it"),
    Figure("wake", "kib_per_room_asleep", "asleep (KiB)"),
)
