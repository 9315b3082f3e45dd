"""The load harness: scenarios, workers, an oracle, and what is made of a result."""
