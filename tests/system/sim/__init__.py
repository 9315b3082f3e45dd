"""Deterministic simulation: the real gateways, links, actors and rooms in one seeded,
virtual world (design.md §11, after FoundationDB and TigerBeetle).

What runs is the product, unchanged: `gateway.Sockets` with its `Connection`s, `Stub`s,
`Links` and `Heartbeat`, `actors.Host` with its `Activation`s, gates, `Release` and
`Committer`, `Valkey` and `ValkeyLog`, and the machines. What is played is what
lies beneath: the event loop and its clock (`sim_loop`), the network (`network`), the
Valkey server (`fake_valkey`), the namespace (`namespace`), and people (`workload`). A
seed decides everything: latencies, cuts at any byte, crashes at any await, freezes,
partitions, two activations of one name. `checker` judges what people saw.

    make sim SEEDS=20000          # many seeds, on every core
    make sim SEED=4711            # one seed again, with its trace
    make sim SABOTAGE=all                      # what catches which sabotage
    make sim SEED=4711 SABOTAGE=deduplication_off

`sabotage` breaks the product in one line at a time and proves that the checker notices.
"""
