"""`make bench`: our figures beside those of peers, in one run on one machine.

`python -m tests.bench` starts one server at a time, loads it from outside and prints
what it cost, as absolute figures and as ratios to the peers of the same repetition.
Absolute figures belong to the machine and the minute; the ratios travel.
"""
