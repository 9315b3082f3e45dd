"""How full a server is, as it says itself, and when that is too full."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from actors.committer import Committer
from actors.turn import Turn
from cfmessenger.errors import Unavailable
from cfmessenger.storage.log import Commit, ValkeyLog
from cfmessenger.storage.reserve import Reserve, share_of
from cfmessenger.storage.valkey import Valkey
from tests.conftest import ADMIN, own_valkey, url_of


class Small:
    """A server whose limit is set so that a share of it is used."""

    def __init__(self, socket: Path) -> None:
        self.url = url_of(socket)
        self.admin = valkey.Valkey(
            unix_socket_path=str(socket), username=ADMIN, password="-"
        )
        self.admin.set("filler", "x" * 50_000_000)  # beside which all else is little

    def used(self, share: float) -> None:
        memory = self.admin.info("memory")
        used = memory["used_memory"] - memory["mem_not_counted_for_evict"]
        self.admin.config_set("maxmemory", int(used / share))


@pytest.fixture(scope="module")
def small() -> Iterator[Small]:
    with own_valkey() as socket:
        made = Small(socket)
        yield made
        made.admin.close()


def test_without_a_limit_nothing_is_full() -> None:
    assert share_of({"used_memory": "5", "maxmemory": "0"}) == 0.0
    assert share_of({}) == 0.0


def test_what_is_yet_to_be_sent_to_replicas_does_not_count() -> None:
    said = {"used_memory": "90", "mem_not_counted_for_evict": "40", "maxmemory": "100"}
    assert share_of(said) == 0.5


@pytest.mark.parametrize(
    ("shares", "alert", "full", "last"),
    [
        ((0.79,), False, False, False),
        ((0.805,), True, False, False),
        ((0.955,), True, True, False),
        ((0.985,), True, True, True),
        ((0.985, 0.965), True, True, True),  # not clearly below yet
        ((0.985, 0.955), True, True, False),
        ((0.955, 0.925), True, False, False),
        ((0.955, 0.70), False, False, False),
    ],
)
async def test_each_limit_is_left_only_clearly_below_it(
    small: Small, shares: tuple[float, ...], alert: bool, full: bool, last: bool
) -> None:
    kv, reserve = Valkey(small.url), Reserve()
    for share in shares:
        small.used(share)
        await reserve.look(kv)
        assert abs(reserve.share - share) < 0.004
    assert (reserve.alert, reserve.full, reserve.last) == (alert, full, last)
    kv.close()


async def test_a_server_that_is_away_changes_nothing(tmp_path: Path) -> None:
    kv, reserve = Valkey(f"unix://{tmp_path}/nobody"), Reserve()
    reserve.full = True
    with pytest.raises(Unavailable):
        await reserve.look(kv)
    assert reserve.full
    kv.close()


async def test_from_the_last_limit_on_nothing_is_appended_and_then_it_is_again(
    small: Small,
) -> None:
    log, reserve = ValkeyLog(small.url, 1000), Reserve()
    committer = Committer(log, Turn(asyncio.get_running_loop()), reserve)
    epoch = (await log.activate("room:a")).epoch
    outcomes: list[Exception | None] = []

    async def append(seq: int) -> Exception | None:
        commit = Commit("room:a", epoch, [(seq, b"e")])
        done = asyncio.Event()

        def report(commit: Commit, outcome: Exception | None) -> None:
            outcomes.append(outcome)
            done.set()

        committer.add(commit, report)
        await done.wait()
        return outcomes[-1]

    small.used(0.96)
    await reserve.look(log)
    assert await append(1) is None
    small.used(0.985)
    await reserve.look(log)
    assert isinstance(await append(2), Unavailable)
    assert len(await log.page("room:a", None, 10)) == 1
    small.used(0.5)
    await reserve.look(log)
    assert await append(2) is None
    log.close()
