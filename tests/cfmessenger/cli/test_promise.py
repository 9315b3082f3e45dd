"""What an acknowledgement promises is one sentence, and true."""

import pytest

from cfmessenger.cli.promise import promise, replicas_of

DISK = {"aof_enabled": "1"}
ONE = {"slave0": "ip=10.0.0.2,port=6379,state=online,offset=1,lag=1,type=replica"}
TWO = ONE | {"slave1": "ip=10.0.0.3,port=6379,state=online,offset=1,lag=0"}
GOOD = {"min_slaves_good_slaves": "1"}
Said = dict[str, str]


@pytest.mark.parametrize(
    ("replication", "persistence", "config", "wanted", "kept", "says"),
    [
        ({}, DISK, {}, 0, True, "an acknowledged message is on disk"),
        ({}, {}, {}, 0, True, "is in memory alone"),
        ({}, DISK, {"appendfsync": "everysec"}, 0, True, "on disk within a second"),
        (ONE, DISK, {}, 0, True, "a failover may lose what a replica has not"),
        (ONE | GOOD, DISK, {}, 1, True, "is on disk and in a replica"),
        (TWO | GOOD, DISK, {}, 2, True, "is on disk and in 2 replicas"),
        ({}, DISK, {}, 1, False, "nothing is acknowledged: 1 replicas are to confirm"),
        (TWO | GOOD, DISK, {}, 1, False, "not protected: 2 replicas could be promoted"),
        (ONE, DISK, {}, 1, False, "min-replicas-to-write 1"),
        (
            TWO | GOOD,
            DISK,
            {"min-replicas-to-write": "1"},
            2,
            False,
            "min-replicas-to-write 2",
        ),
    ],
)
def test_it_is_said_what_is_kept_and_what_to_do(
    replication: Said,
    persistence: Said,
    config: Said,
    wanted: int,
    kept: bool,
    says: str,
) -> None:
    found = promise(replication, persistence, config, wanted)
    assert found.kept is kept
    assert says in found.says


def test_replicas_are_those_that_the_primary_lists() -> None:
    one, two = replicas_of(TWO | {"connected_slaves": "2", "role": "master"})
    assert (one.host, one.port, one.online, one.lag_s) == ("10.0.0.2", 6379, True, 1)
    assert two.host == "10.0.0.3"
