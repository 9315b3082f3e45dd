"""What a load test is to do: the scenario, its sizes, and which worker does what.

Owns the limits and the defaults of each scenario; a bad plan is a `PlanError` of one
line that names the flag. Nothing here touches the network. Rates and durations are of
the whole test, not of a worker.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from cfmessenger.client.urls import is_loopback
from cfmessenger.errors import ProtocolError
from cfmessenger.ids import parse_room_id
from cfmessenger.wire.complaint import complaint

from .arrivals import zipf

Scenario = Literal[
    "fanout",
    "rooms",
    "mixed",
    "idle",
    "wake",
    "churn",
    "slow-consumer",
    "presence-storm",
    "hot",
    "open",
    "crowd",
    "gather",
]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

SUMMARIES: dict[Scenario, str] = {
    "fanout": "one room, many sockets, one message after another to all of them",
    "rooms": "many small rooms, messages spread over all of them",
    "mixed": "rooms of Zipf sizes: chat, typing, nudges, joins and leaves",
    "idle": "sockets that say nothing: what they cost",
    "wake": "rooms of one socket that fall asleep and are spoken to again",
    "churn": "sockets that drop and come back with `since` while others talk",
    "slow-consumer": "one room in which some sockets do not read",
    "presence-storm": "presence sockets while people change their status",
    "hot": "many calm rooms, and one hot room that begins beside them",
    "open": "many conversations begun at once: a socket, a message, its echo",
    "crowd": "many people come online within seconds, each on a presence socket",
    "gather": "many people come into one room within seconds",
}

MAX_KEPT = 512 * 2**20

#: What they are about is the gateway's work: resuming, outboxes, presence sockets.
GATEWAY_ONLY: tuple[Scenario, ...] = (
    "churn",
    "slow-consumer",
    "presence-storm",
    "hot",
    "crowd",
    "gather",
)

ONLINE: tuple[Scenario, ...] = ("presence-storm", "crowd")
"""Presence sockets alone: nobody is in a room."""

# What a scenario means where its flags are silent.
DEFAULTS: dict[Scenario, dict[str, Any]] = {
    "fanout": {"sockets": 200, "rooms": 1, "rate": 100.0},
    "rooms": {"sockets": 200, "rooms": 50, "rate": 500.0},
    "mixed": {"sockets": 200, "rooms": 20, "rate": 300.0, "arrivals": "poisson"},
    "idle": {"sockets": 1000, "rooms": 1, "rate": 0.0},
    "wake": {"sockets": 20, "rooms": 20, "rate": 0.0, "warmup_s": 0.0},
    "churn": {"sockets": 100, "rooms": 10, "rate": 100.0, "arrivals": "poisson"},
    "slow-consumer": {"sockets": 50, "rooms": 1, "rate": 1000.0, "size": 2000},
    "presence-storm": {"sockets": 100, "rooms": 0, "rate": 20.0},
    "hot": {"rooms": 200, "duration_s": 30.0},
    "open": {"rooms": 60, "rate": 0.0, "warmup_s": 0.0},
    "crowd": {
        "sockets": 300,
        "rooms": 0,
        "rate": 0.0,
        "warmup_s": 0.0,
        "within_s": 5.0,
    },
    "gather": {
        **{"sockets": 300, "rooms": 1, "rate": 0.0},
        **{"warmup_s": 0.0, "within_s": 10.0},
    },
}

CALM_SOCKETS = 2
"""In each calm room of `hot`, in which one message a second is said."""


class PlanError(ValueError):
    """A plan that cannot be carried out; the text names the flag."""


class Plan(
    msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=False
):
    """A whole load test, as its workers are told; made by `plan`."""

    scenario: Scenario
    target: Literal["gateway", "actors"] = "gateway"
    url: str = "http://127.0.0.1:8000"
    namespace: str = ""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    sockets: Annotated[int, Meta(ge=1, le=100_000)]
    rooms: Annotated[int, Meta(ge=0, le=50_000)]
    rate: Annotated[float, Meta(ge=0, le=200_000)]
    arrivals: Literal["constant", "poisson"] = "constant"
    window: Annotated[int, Meta(ge=0, le=10_000)] = 0
    messages: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    duration_s: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0
    warmup_s: Annotated[float, Meta(ge=0, le=600)] = 2.0
    sleep_s: Annotated[float, Meta(ge=0, le=3600)] = 15.0
    size: Annotated[int, Meta(ge=1, le=2000)] = 100
    churn_rate: Annotated[float, Meta(ge=0, le=10_000)] = 20.0
    slow: Annotated[int, Meta(ge=0, le=10_000)] = 2
    hot_sockets: Annotated[int, Meta(ge=1, le=10_000)] = 100
    hot_rate: Annotated[float, Meta(gt=0, le=10_000)] = 100.0
    calm_url: str = ""
    within_s: Annotated[float, Meta(ge=0, le=600)] = 1.0
    settle_s: Annotated[float, Meta(ge=0, le=600)] = 5.0
    """So long after the hot room began what its neighbours see counts again."""

    zipf: Annotated[float, Meta(ge=0, le=5)] = 1.1
    tick_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    max_lag_ms: Annotated[float, Meta(ge=1, le=60_000)] = 20.0
    quiet_s: Annotated[float, Meta(ge=0.1, le=60)] = 6.0
    """How long what is missing may still come; wire.md §5 answers within 5 s."""

    seed: int = 1
    room: str = ""
    run: str = ""
    """Makes ids and room names of this run unlike any other's."""

    @property
    def open_loop(self) -> bool:
        """Whether messages are due by the clock, whatever the answers do."""
        return not self.window

    @property
    def comes_late(self) -> bool:
        """Whether nobody is connected before the measurement begins."""
        return self.scenario in ("open", "crowd", "gather")

    @property
    def connect_s(self) -> float:
        """Long enough for everybody to get in."""
        return 60.0 + (3.0 if self.scenario == "wake" else 0.5) * self.sockets

    @property
    def run_s(self) -> float:
        """Long enough for everything to be said."""
        if self.scenario == "wake":
            return self.sleep_s + 3.0 * self.sockets
        if self.scenario == "open":
            return self.within_s + 60.0 + 3.0 * self.sockets
        if self.scenario in ("crowd", "gather"):
            return self.within_s + 60.0 + 0.5 * self.sockets
        return self.warmup_s + self.duration_s

    def room_name(self, n: int) -> str:
        """The id of the `n`th room."""
        if self.rooms == 1 and self.scenario not in ("hot", "open"):
            return self.room
        return f"{self.room}-{n}"

    @property
    def hot_room(self) -> str:
        """The id of the one hot room."""
        return f"{self.room}-hot"

    @property
    def tried_room(self) -> str | None:
        """The room that is tried before any load is made, or presence."""
        if self.scenario in ("open", "gather"):  # their own are to be new
            return f"{self.room}-{self.rooms}"
        return self.room_name(0) if self.rooms else None

    @property
    def hot_at_s(self) -> float:
        """When the hot room begins, after the warm-up: in the last two thirds."""
        return self.duration_s / 3


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One socket: its room (None: presence) and the number of its user."""

    number: int
    room: str | None
    user: int
    slow: bool = False


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one worker does of it."""

    worker: int
    places: list[Place]
    share: float  # of the rate


def plan(scenario: Scenario, run: str, **flags: Any) -> Plan:
    """The plan for these flags (None: not given). Raises `PlanError`."""
    given = {name: value for name, value in flags.items() if value is not None}
    fields = {"scenario": scenario, "run": run} | DEFAULTS[scenario] | given
    if scenario == "wake" and "sockets" not in given and "rooms" in given:
        fields["sockets"] = given["rooms"]
    if scenario == "open":
        fields["sockets"] = fields["rooms"]
    if scenario == "hot":
        _calm_and_hot(fields)
    fields["room"] = fields.get("room") or f"load-{run}"
    camel = Plan.__struct_encode_fields__
    names = dict(zip(Plan.__struct_fields__, camel, strict=True))
    try:
        made = msgspec.convert(
            {names[name]: value for name, value in fields.items()}, Plan
        )
    except msgspec.ValidationError as error:
        where, _, says = complaint(error)
        back = dict(zip(camel, Plan.__struct_fields__, strict=True))
        flag = _flag(back.get(where, where))
        raise PlanError(f"{flag}: {says[0].lower()}{says[1:]}") from None
    _check(made, given)
    return made


def _calm_and_hot(fields: dict[str, Any]) -> None:
    hot = fields.get("hot_sockets", 100)
    if isinstance(fields["rooms"], int) and isinstance(hot, int):
        fields["sockets"] = CALM_SOCKETS * fields["rooms"] + hot
        fields["rate"] = float(fields["rooms"])


def _check(made: Plan, given: dict[str, Any]) -> None:
    if made.rooms > made.sockets:
        raise PlanError(f"--rooms: {made.rooms} rooms need as many --sockets")
    if made.scenario in ("fanout", "slow-consumer", "gather") and made.rooms != 1:
        raise PlanError(f"--rooms: {made.scenario} has one room")
    if made.target == "actors" and made.scenario in GATEWAY_ONLY:
        raise PlanError(f"--target: {made.scenario} is about gateways")
    if made.rooms < 1 and made.scenario not in ONLINE:
        raise PlanError("--rooms: at least one")
    if made.scenario == "wake" and made.rooms != made.sockets:
        raise PlanError("--sockets: wake has one socket in each of its --rooms")
    if made.window and made.scenario != "fanout":
        raise PlanError("--window: only fanout can wait for its answers")
    if made.window and "rate" in given:
        raise PlanError("--window: replaces --rate; give one of them")
    silent = made.scenario in ("idle", "wake", "open", "crowd", "gather")
    if not made.window and not silent and not made.rate:
        raise PlanError("--rate: must be more than 0")
    if made.scenario == "slow-consumer":
        kept = made.rate * (made.warmup_s + made.duration_s) * made.size
        if kept > MAX_KEPT:
            raise PlanError(
                "--duration: too long at this --rate and --size; everything is kept "
                f"for those who do not read, at most {MAX_KEPT >> 20} MiB"
            )
    if made.slow >= made.sockets and made.scenario == "slow-consumer":
        raise PlanError("--slow: somebody must read")
    if made.scenario == "hot" and made.duration_s - made.hot_at_s <= made.settle_s:
        raise PlanError("--duration: nothing is left of it once the hot room is hot")
    if made.workers > made.sockets:
        raise PlanError("--workers: more than --sockets")
    try:
        for n in (0, max(0, made.rooms - 1)):
            if parse_room_id(made.room_name(n)).direct:
                raise PlanError("--room: a group room, not a direct one")
    except ProtocolError as error:
        raise PlanError(f"--room: {error.message}") from None


def check_reach(url: str, allow_remote: bool) -> None:
    """Raises `PlanError` for a target on another machine, unless that is wanted."""
    if url.startswith("unix:") or allow_remote or is_loopback(url):
        return
    raise PlanError(
        f"{url} is not on this machine; load on somebody's machine needs their "
        "consent: --allow-remote says that you have it"
    )


def parts(made: Plan) -> list[Part]:
    """Which places each worker takes.

    A room belongs to one worker, which alone can check it in full; only where there are
    fewer rooms than workers are the sockets of a room spread over all.
    """
    places = _places(made)
    taken: list[list[Place]] = [[] for _ in range(made.workers)]
    if made.rooms < made.workers:
        for place in places:
            taken[place.number % made.workers].append(place)
    else:
        rooms: dict[str | None, list[Place]] = {}
        for place in places:
            rooms.setdefault(place.room, []).append(place)
        for group in sorted(rooms.values(), key=len, reverse=True):
            min(taken, key=len).extend(group)
    return [
        Part(worker, mine, len(mine) / len(places)) for worker, mine in enumerate(taken)
    ]


def _places(made: Plan) -> list[Place]:
    count = made.sockets
    if made.scenario in ONLINE:
        return [Place(n, None, n) for n in range(count)]
    if made.scenario == "hot":
        rooms = [made.room_name(n // CALM_SOCKETS) for n in range(count)]
        calm = CALM_SOCKETS * made.rooms
        rooms[calm:] = [made.hot_room] * made.hot_sockets
        return [Place(n, room, n) for n, room in enumerate(rooms)]
    exponent = made.zipf if made.scenario == "mixed" else 0.0
    sizes = zipf(count, made.rooms, exponent)
    slow = made.slow if made.scenario == "slow-consumer" else 0
    rooms = [made.room_name(r) for r, size in enumerate(sizes) for _ in range(size)]
    return [Place(n, room, n, n >= count - slow) for n, room in enumerate(rooms)]


def _flag(field: str) -> str:
    name = field.removesuffix("_s").removesuffix("_ms").replace("_", "-")
    return f"--{name}"
