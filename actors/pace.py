"""How often a host looks around, and how long it waits for what.

These are no settings: whoever runs the product need not know them. They are values
because tests and the simulation have less patience.
"""

from __future__ import annotations

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Seconds, and milliseconds where a name ends in `_ms`.

    `tick_s`: between two looks. `hello_s`: in which a link must say who it is.
    `at_once`: objects that go to sleep together, so that their mirrors share a flush
    to disk. Of rooms with an actor of their own (own_rooms.py): `lived_s`: who is awake
    with sockets for so long lives; `one_in_ms`: those that merely live are moved one
    after another, for each is a process to start; `say_every_s`: how busy they are;
    `up_within_s`: a new actor that is not there by then will not come, its room stays;
    `orphan_ms`: one that is older and says no load has no process, and goes first.
    """

    tick_s: float = 0.5
    hello_s: float = 5.0
    at_once: int = 500
    lived_s: float = 60.0
    one_in_ms: int = 3_000
    say_every_s: float = 2.0
    up_within_s: float = 15.0
    orphan_ms: int = 30_000


USUAL = Pace()
