"""What the workers of a load test and the one who runs them say to each other.

Owns the messages and their framing, whatever carries them: pipes of local processes or
a queue of Ray. Sans-IO. The order is fixed: `Job`, then `Ready`; `Go`, then `Progress`
each second and `Stopped`; `Settle`, then `Home`; `Leave`. A worker that cannot go on
sends `Failed` instead of what is due.
"""

from __future__ import annotations

import msgspec

from cfmessenger.link.framing import framed

from .oracle import Evidence
from .plan import Part, Plan
from .result import Progress, Share


class _Message(msgspec.Struct, frozen=True, array_like=True):
    pass


class Person(_Message, frozen=True):
    """Who speaks: a user, and the session if the target wants one."""

    user_id: str
    session_id: str = ""


# To a worker.


class Job(_Message, frozen=True, tag=0):
    """What to do. The last two are for actors: the namespace's key, and the storage."""

    plan: Plan
    part: Part
    people: list[Person]
    namespace_key: str = ""
    valkey_url: str = ""


class Go(_Message, frozen=True, tag=1):
    """Everybody is connected: begin the warm-up."""


class Settle(_Message, frozen=True, tag=2):
    """Nobody sends any more; see that everybody has got up to these numbers."""

    tops: dict[str, int]


class Leave(_Message, frozen=True, tag=3):
    """All is measured: close the sockets."""


ToWorker = Job | Go | Settle | Leave

# From a worker.


class Ready(_Message, frozen=True, tag=0):
    """All sockets are open. `pid` tells the generator from the server; `host` is the
    machine's name."""

    pid: int
    host: str = ""


class Report(_Message, frozen=True, tag=1):
    """How it goes."""

    progress: Progress


class Stopped(_Message, frozen=True, tag=2):
    """All is sent. The highest number seen in each room, and when the first message
    that counts was due and the last came, on the monotonic clock."""

    tops: dict[str, int]


class Home(_Message, frozen=True, tag=3):
    """What there is to tell."""

    share: Share
    evidence: list[Evidence]
    measured_s: float


class Failed(_Message, frozen=True, tag=4):
    """It cannot go on. `unreachable`: the target's fault, not the plan's."""

    message: str
    unreachable: bool = True


FromWorker = Ready | Report | Stopped | Home | Failed

encode = msgspec.msgpack.Encoder().encode
to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)

MAX_FRAME = 256 * 2**20


def frame(message: ToWorker | FromWorker) -> bytes:
    """One message as bytes for a pipe. Raises `framing.TooLong`."""
    return framed(encode(message), MAX_FRAME)
