"""The bots: personas of the seeded list that answer, on a budget.

`director` decides (pure: who is in rotation, which question may be answered, what it
costs), `replier` answers (I/O), `mentions` finds out who is spoken to.
"""

NAME = "bots"
"""What the other objects call this guest."""
