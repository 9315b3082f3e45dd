"""What an acknowledgement promises, as a Valkey is set up: one sentence for people.

Pure: it is told what the server says of itself, and it asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

MIN_REPLICAS = "min-replicas-to-write"
FSYNC = "appendfsync"


class Replica(NamedTuple):
    """A replica as its primary sees it; `lag_s`: since it was last heard."""

    host: str
    port: int
    online: bool
    lag_s: int


class Promise(NamedTuple):
    """`kept`: it is what CFM_DURABILITY says; `says` is the sentence, with what to do
    where it is not."""

    kept: bool
    says: str


def replicas_of(replication: Mapping[str, str]) -> list[Replica]:
    """Those that INFO replication lists."""
    found = []
    for name, said in replication.items():
        if not re.fullmatch("slave[0-9]+", name):
            continue
        told = dict(pair.partition("=")[::2] for pair in said.split(","))
        host, port = told.get("ip", ""), int(told.get("port", "0"))
        lag_s = int(told.get("lag", "-1"))
        found.append(Replica(host, port, told.get("state") == "online", lag_s))
    return found


def promise(
    replication: Mapping[str, str],
    persistence: Mapping[str, str],
    config: Mapping[str, str],
    wanted: int,
) -> Promise:
    """Of a primary: two sections of INFO, and what CONFIG says, as far as it may be
    asked. `wanted`: so many replicas are waited for."""
    there = len(replicas_of(replication))
    disk = _disk(persistence, config)
    if not wanted:
        promised = f"an acknowledged message is {disk}"
        if there:
            promised += "; a failover may lose what a replica has not received"
        return Promise(True, promised)
    if there < wanted:
        return Promise(
            False,
            f"nothing is acknowledged: {wanted} replicas are to confirm, and {there} "
            "are there",
        )
    if there > wanted:
        return Promise(
            False,
            f"not protected: {there} replicas could be promoted and only {wanted} are "
            f"waited for (CFM_DURABILITY_REPLICAS={there}, or fewer replicas)",
        )
    promised = f"an acknowledged message is {disk} and in {_count(wanted)}"
    # INFO tells of good ones only where it is set.
    least = config.get(MIN_REPLICAS) or str(
        wanted if "min_slaves_good_slaves" in replication else 0
    )
    if int(least) < wanted:
        return Promise(
            False,
            f"{promised}; but a primary that is cut off goes on to take what it cannot "
            f"keep: {MIN_REPLICAS} {wanted}",
        )
    return Promise(True, promised)


def _disk(persistence: Mapping[str, str], config: Mapping[str, str]) -> str:
    if persistence.get("aof_enabled") != "1":
        return "in memory alone"
    if config.get(FSYNC, "always") != "always":
        return f"on disk within a second or so ({FSYNC} {config[FSYNC]})"
    return "on disk"


def _count(replicas: int) -> str:
    return "a replica" if replicas == 1 else f"{replicas} replicas"
