"""What the bots did and who of them is there, as it is found in Valkey."""

import valkey

from cfmessenger.bots.derived import ACTIVE_TTL_S, DAY_TTL_S, DERIVED
from cfmessenger.bots.effects import Active, Count, Spent
from cfmessenger.chat.effects import GuestEffect
from cfmessenger.storage import keys
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.log import ValkeyLog

DAY, DATE = 20_000, "2024-10-04"


async def written(url: str, *effects: GuestEffect) -> None:
    log = ValkeyLog(url, 1000)
    derived = DerivedKeys(log)
    for effect in effects:
        derived.write(*DERIVED[type(effect)](effect))
    await derived.flush()
    log.close()


async def test_figures_and_what_is_spent_are_a_days(
    empty_valkey: str, admin_valkey: valkey.Valkey
) -> None:
    count = Count(DAY, "bot_a", "tokens", 3)
    await written(empty_valkey, count, count, Spent(DAY, None, 7), Spent(DAY, "u", 2))
    assert admin_valkey.hgetall(keys.bots_metrics(DATE)) == {b"bot_a:tokens": b"6"}
    assert admin_valkey.get(keys.bots_quota(DATE)) == b"7"
    assert admin_valkey.get(keys.bots_quota(DATE, "u")) == b"2"
    for key in (keys.bots_metrics(DATE), keys.bots_quota(DATE)):
        assert 0 < admin_valkey.ttl(key) <= DAY_TTL_S


async def test_these_are_in_rotation_and_no_others(
    empty_valkey: str, admin_valkey: valkey.Valkey
) -> None:
    line = ("c", "a", "b")
    await written(empty_valkey, Active(("a", "b"), line), Active(("b",), line))
    assert set(admin_valkey.smembers(keys.BOTS_ACTIVE)) == {b"b"}
    assert admin_valkey.get(keys.BOTS_LINE) == b"c a b"
    assert 0 < admin_valkey.ttl(keys.BOTS_ACTIVE) <= ACTIVE_TTL_S
    await written(empty_valkey, Active((), line))
    assert not admin_valkey.exists(keys.BOTS_ACTIVE)
