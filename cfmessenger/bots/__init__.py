"""The bots: personas of the seeded list that answer, on a budget.

`director` decides (pure: who is in rotation, which question may be answered, what it
costs), `replier` answers (I/O), `asking` hears in rooms who is spoken to.
"""

DIRECTOR = "bots:director"
"""The object that decides which bots are on and which of them answers."""

NAME = "bots"
"""What the other objects call this guest."""
