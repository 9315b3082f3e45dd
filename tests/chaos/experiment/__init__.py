"""One fault at a time, with figures: done to real processes.

`python -m tests.chaos.experiment NAME`; each prints a few lines and fails (exit code 1)
when the checker finds something or a promise of its own is broken.
"""
