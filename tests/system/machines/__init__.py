"""A cluster of several machines on this one host, to be broken on purpose.

A machine is a network, PID and mount namespace with an address on a bridge of ours;
what runs in it is the product's own commands. `python -m tests.system.machines` plays
the rows of a table, each a fault under load; what clients saw is judged by the load
harness.
"""
