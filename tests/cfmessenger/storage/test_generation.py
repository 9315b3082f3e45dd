"""The generation of placement in a real Valkey: seeded, changed, never ambiguous."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import valkey

from cfmessenger.errors import Unavailable
from cfmessenger.placement import Mode, Placement
from cfmessenger.storage import generation as generation_module
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog

Open = Callable[[], Generation]
KEYS = (keys.PLACEMENT, keys.log(NAME), keys.OWN_LOADS)


@pytest.fixture
async def opened(valkey_url: str, admin_valkey: valkey.Valkey) -> AsyncIterator[Open]:
    """Makes generations, each on a connection of its own; the key is there for none."""
    admin_valkey.delete(*KEYS)
    logs: list[ValkeyLog] = []

    def opened() -> Generation:
        logs.append(ValkeyLog(valkey_url, 0))
        return Generation(logs[-1])

    yield opened
    for log in logs:
        log.close()
    admin_valkey.delete(*KEYS)


# Seeding.


async def test_before_anybody_seeds_it_there_is_none(opened: Open) -> None:
    assert await opened().read() is None


async def test_the_first_seed_is_what_everybody_follows(opened: Open) -> None:
    first, second = opened(), opened()
    made = await first.seed("pooled", 3)
    assert made == Placement("pooled", 3, 1)
    assert await second.seed("dedicated", 1) == made
    assert await second.read() == await first.read() == made


async def test_of_many_who_seed_at_once_one_is_followed(opened: Open) -> None:
    modes: list[tuple[Mode, int]] = [("dedicated", 1), ("pooled", 2), ("pooled", 3)]
    seeds = [opened().seed(*mode) for mode in modes * 3]
    found = await asyncio.gather(*seeds)
    assert all(each == found[0] for each in found)
    assert found[0].number == 1


async def test_what_was_changed_is_kept_by_whoever_starts_beside_it(
    opened: Open,
) -> None:
    one = opened()
    await one.seed("dedicated", 1, "start-1")
    changed = await one.change("pooled", 2)
    assert changed == Placement("pooled", 2, 2)
    # A namespace server of the same start, or one of a cluster, which has no start.
    assert await opened().seed("dedicated", 1, "start-1") == changed
    assert await opened().seed("dedicated", 1) == changed


async def test_another_start_follows_its_settings_once(opened: Open) -> None:
    one = opened()
    await one.seed("dedicated", 1, "start-1")
    await one.change("pooled", 2)
    again = await opened().seed("dedicated", 1, "start-2")
    assert again == Placement("dedicated", 1, 3)
    assert await opened().seed("dedicated", 1, "start-2") == again
    changed = await one.change("pooled", 4)
    assert await opened().seed("dedicated", 1, "start-2") == changed


async def test_another_start_with_the_same_settings_moves_nothing(
    opened: Open,
) -> None:
    made = await opened().seed("pooled", 2, "start-1")
    again = await opened().seed("pooled", 2, "start-2")
    assert (again.mode, again.size) == ("pooled", 2)
    assert not again.changed_after(made.number)
    # And it is that start's now: what is changed from here on stays.
    changed = await opened().change("dedicated", 1)
    assert await opened().seed("pooled", 2, "start-2") == changed


@pytest.mark.parametrize("seed", ["", "start-1"])
async def test_what_was_in_a_plain_key_goes_on(
    opened: Open, admin_valkey: valkey.Valkey, seed: str
) -> None:
    former = {"mode": "pooled", "size": 3, "number": 7, "seed": "start-1"}
    admin_valkey.set(keys.PLACEMENT, msgspec.json.encode(former))
    made = await opened().seed("auto", 1, seed)
    wanted = "auto" if seed else "pooled"
    assert (made.mode, made.number) == (wanted, 8)
    assert await opened().read() == made, "where hosts look"


# Changing.


async def test_a_change_needs_no_seed(opened: Open) -> None:
    assert await opened().change("pooled", 2) == Placement("pooled", 2, 1)


async def test_an_equal_change_moves_nothing(opened: Open) -> None:
    one = opened()
    made = await one.change("pooled", 2)
    assert await one.change("pooled", 2) == made
    assert await opened().change("pooled", 2) == made
    assert await one.change("pooled", 3) == Placement("pooled", 3, 2)


@pytest.mark.parametrize("shared", [False, True])
async def test_of_two_who_change_at_once_both_make_a_generation(
    opened: Open, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Each number has one meaning, also for two callers of one namespace server."""
    monkeypatch.setattr(generation_module, "TRIES", 100)
    one = opened()
    two = one if shared else opened()
    made: dict[int, Placement] = {}

    async def change(changes: Generation, sizes: range) -> None:
        for size in sizes:
            found = await changes.change("pooled", size)
            assert made.setdefault(found.number, found) == found
            assert found.size == size

    await asyncio.gather(change(one, range(1, 21)), change(two, range(101, 121)))
    assert sorted(made) == list(range(1, 41)), "each change is a generation"
    assert await one.read() == made[40]


async def test_a_change_that_is_always_too_late_gives_up(
    opened: Open, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(ValkeyLog):
        """Between its read and its write, somebody else is faster."""

        async def execute(self, items: Any, *how: Any, **more: Any) -> list[Any]:
            if items[0][0] == "XADD":
                now = await rival.read()
                await rival.change("pooled", now.size + 1 if now else 1)
            return await super().execute(items, *how, **more)

    rival, slow = opened(), Slow(valkey_url, 0)
    try:
        with pytest.raises(Unavailable):
            await Generation(slow).change("dedicated", 1)
    finally:
        slow.close()
    found = await rival.read()
    assert found == Placement("pooled", generation_module.TRIES, found.number)


async def test_a_command_that_is_refused_is_unavailable(
    opened: Open, admin_valkey: valkey.Valkey
) -> None:
    admin_valkey.lpush(keys.log(NAME), "no stream")
    one = opened()
    for call in (one.read(), one.seed("pooled", 1), one.change("pooled", 1)):
        with pytest.raises(Unavailable):
            await call


async def test_a_valkey_that_is_not_there_is_unavailable() -> None:
    log = ValkeyLog("unix:///nowhere.sock", 0)
    try:
        with pytest.raises(Unavailable):
            await Generation(log).change("pooled", 1)
    finally:
        log.close()


async def test_the_size_of_a_pool_means_nothing_to_dedicated_rooms(
    opened: Open,
) -> None:
    generation = opened()
    first = await generation.change("dedicated", 1)
    assert await generation.change("dedicated", 7) == first
    assert (await generation.change("pooled", 7)).number == first.number + 1


# Other releases, and another cluster.


async def test_what_a_later_release_has_put_there_stays_when_this_one_changes_it(
    opened: Open, admin_valkey: valkey.Valkey
) -> None:
    later = {
        "mode": "auto",
        "size": 2,
        "number": 7,
        "own": {"room:vip": ["sponsored", 5, 6]},
        "ended": {},
        "seed": "",
        "zones": {"room:a": ["eu", 1]},
    }
    admin_valkey.xadd(keys.log(NAME), {"e": msgspec.json.encode(later)}, id="7-0")
    one = opened()
    for made in (await one.pin("room:a"), await one.demote(["room:vip"], now=9)):
        assert made.own["room:vip"].why == "sponsored"
    ((entry, fields),) = admin_valkey.xrange(keys.log(NAME))
    kept = msgspec.json.decode(fields[b"e"])
    assert (entry, kept["zones"]) == (b"8-0", later["zones"])
    assert kept["own"]["room:vip"] == ["sponsored", 5, 6]
    assert kept["own"]["room:a"][0] == "pinned"
    assert (await one.pin("room:vip")).number == 8, "its reason is not for us to change"
    assert (await one.change("auto", 3)).own.keys() == {"room:vip", "room:a"}


async def test_a_kind_of_placement_that_is_unknown_is_refused_and_named(
    opened: Open, admin_valkey: valkey.Valkey
) -> None:
    entry = {"e": b'{"mode":"scattered","size":2,"number":3}'}
    admin_valkey.xadd(keys.log(NAME), entry, id="3-0")
    for asked in (opened().read(), opened().pin("room:a"), opened().seed("auto", 1)):
        with pytest.raises(Unavailable, match="'scattered' - at `\\$.mode`"):
            await asked
    assert admin_valkey.xrange(keys.log(NAME))[0][1][b"e"] == entry["e"]


async def test_another_cluster_has_it_until_it_is_told_or_owns_the_valkey(
    opened: Open,
) -> None:
    one = opened()
    first = await one.seed("pooled", 2, cluster="blue")
    assert first.cluster == "" and first.lives_in("blue") and first.lives_in("green")
    taken = await one.hand_to("green")
    assert (taken.number, taken.cluster) == (2, "green")
    assert not taken.lives_in("blue") and taken.lives_in("green") and taken.lives_in("")
    assert await one.hand_to("green") == taken
    assert await one.seed("pooled", 2, cluster="green") == taken
    assert await one.seed("pooled", 2) == taken
    assert (await one.pin("room:a")).cluster == "green"
    back = await one.seed("pooled", 2, cluster="blue")
    assert (back.number, back.cluster, back.why("room:a")) == (4, "blue", None)
    assert (await one.seed("auto", 1, "start-1", cluster="green")).cluster == "green"
