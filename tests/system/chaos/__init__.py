"""Fault injection against a real `cfmessenger up`, judged by what clients saw.

`python -m tests.system.chaos` (or `make chaos`) is the bounded soak, `python -m
tests.system.chaos.experiment NAME` one fault at a time with its figures. Clients keep
histories (`history`), `checker` judges them and nothing else: it knows no process, so
it can be tested with histories made by hand.
"""
