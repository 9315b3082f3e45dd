"""The Durable Object runtime on Ray: gates, activation, links, the shells.

Runs the state machines of `cfmessenger`. Never imports `gateway`; `ray` is imported
in `ray_namespace.py` and `warm_pool.py` only, so everything else runs without it.
"""
