"""Keys written behind: they arrive, they expire, and their loss hurts nobody."""

import uuid
from collections.abc import AsyncIterator

import pytest
import valkey

from cfmessenger.chat.effects import Record
from cfmessenger.storage import derived as derived_module
from cfmessenger.storage import keys
from cfmessenger.storage.derived import HEARTBEAT_TTL_S, DerivedKeys
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.valkey import Valkey, pairs
from tests.valkey_proxy import proxied


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 1000)
    yield log
    log.close()


@pytest.fixture
def user() -> str:
    return f"user_{uuid.uuid4().hex}"


async def record_of(log: ValkeyLog, user: str) -> dict[bytes, bytes]:
    (flat,) = await log.execute([("HGETALL", keys.presence(user))])
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_a_presence_record_expires_by_itself(
    log: ValkeyLog, admin_valkey: valkey.Valkey, user: str
) -> None:
    derived = DerivedKeys(log)
    derived.record(Record(user, "busy", 1, True), "g1")
    await derived.flush()
    found = await record_of(log, user)
    assert found[b"status"] == b"busy"
    assert found[b"routingHint"] == b"g1"
    assert int(found[b"lastHeartbeat"]) > 1_700_000_000_000
    assert 0 < admin_valkey.ttl(keys.presence(user)) <= HEARTBEAT_TTL_S


async def test_a_record_without_a_gateway_keeps_the_hint(
    log: ValkeyLog, user: str
) -> None:
    derived = DerivedKeys(log)
    derived.record(Record(user, "online", 1, True), "g1")
    derived.record(Record(user, "away", 1, True), None)
    await derived.flush()
    found = await record_of(log, user)
    assert (found[b"status"], found[b"routingHint"]) == (b"away", b"g1")


async def test_who_left_has_no_record(log: ValkeyLog, user: str) -> None:
    derived = DerivedKeys(log)
    derived.record(Record(user, "online", 0, True), "g1")
    derived.record(Record(user, "online", 0, False), "g1")
    await derived.flush()
    assert await record_of(log, user) == {}


async def test_a_choice_stays_for_a_while_after_who_made_it(
    log: ValkeyLog, admin_valkey: valkey.Valkey, user: str
) -> None:
    derived = DerivedKeys(log)
    derived.record(Record(user, "busy", 7, True), "g1")
    derived.record(Record(user, "busy", 7, False), "g1")
    await derived.flush()
    assert await record_of(log, user) == {b"chosen": b"busy", b"chosenAt": b"7"}
    assert 0 < admin_valkey.ttl(keys.presence(user)) <= HEARTBEAT_TTL_S


async def test_a_direct_room_moves_up_and_never_down(log: ValkeyLog, user: str) -> None:
    derived = DerivedKeys(log)
    other = f"{user}x"
    for room, at in (("room:dm_a__b", 5), ("room:dm_a__c", 7), ("room:dm_a__b", 3)):
        derived.touch(room, (user, other), at)
    await derived.flush()
    command = ("ZRANGE", keys.user_rooms(user), "0", "-1", "WITHSCORES")
    mine, theirs = await log.execute(
        [command, ("ZRANGE", keys.user_rooms(other), "0", "-1")]
    )
    assert mine == [b"dm_a__b", b"5", b"dm_a__c", b"7"]
    assert theirs == [b"dm_a__b", b"dm_a__c"]


async def marks_of(log: ValkeyLog, name: str) -> dict[bytes, bytes]:
    found = await log.ask("ZRANGE", keys.reads(name), "0", "-1", "WITHSCORES")
    return dict(zip(found[::2], found[1::2], strict=True))


async def test_read_marks_go_forwards_alone_and_many_are_one_command(
    valkey_url: str, user: str
) -> None:
    name = f"room:{user}"
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        await log.epoch("room:none")
        before = len(proxy.sent)
        derived = DerivedKeys(log)
        for seq in (*range(1, 101), 7):
            derived.read(name, "user_1", seq)
        derived.read(name, "user_2", 3)
        await derived.flush()
        (chunk,) = proxy.sent[before:]
        assert chunk.count(b"ZADD") == 1
        assert await marks_of(log, name) == {b"user_1": b"100", b"user_2": b"3"}
        # Whoever comes late, from another life of the room too, changes nothing.
        late = DerivedKeys(log)
        late.read(name, "user_1", 99)
        late.read(name, "user_2", 4)
        await late.flush()
        assert await marks_of(log, name) == {b"user_1": b"100", b"user_2": b"4"}
        log.close()


async def test_read_marks_that_storage_did_not_take_go_with_the_next_write(
    valkey_url: str, user: str
) -> None:
    name = f"room:{user}"
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        derived = DerivedKeys(log)
        proxy.refusing = True
        derived.read(name, "user_1", 5)
        derived.read(name, "user_2", 5)
        await derived.flush()
        derived.read(name, "user_1", 4)
        await derived.flush()
        proxy.refusing = False
        derived.record(Record(user, "away", 1, True), "g2")
        await derived.flush()
        assert await marks_of(log, name) == {b"user_1": b"5", b"user_2": b"5"}
        log.close()


async def test_read_marks_that_storage_refuses_are_kept(
    log: ValkeyLog, user: str
) -> None:
    derived, wrong, right = DerivedKeys(log), f"room:{user}", f"room:{user}x"
    await log.ask("SET", keys.reads(wrong), "not a set")
    derived.read(wrong, "user_1", 5)
    derived.read(right, "user_1", 5)
    await derived.flush()
    assert await marks_of(log, right) == {b"user_1": b"5"}
    await log.ask("DEL", keys.reads(wrong))
    await derived.flush()
    assert await marks_of(log, wrong) == {b"user_1": b"5"}


async def test_damage_that_storage_did_not_take_is_counted_with_the_next_write(
    log: ValkeyLog, valkey_url: str, user: str
) -> None:
    """Who watches must hear of a loss, though it was a bad moment to tell of it."""

    async def counted() -> dict[str, int]:
        return {k.decode(): int(v) for k, v in pairs(await asked()).items()}

    async def asked() -> object:
        return await log.ask("HGETALL", keys.DAMAGE)

    before = await counted()
    async with proxied(valkey_url) as proxy:
        away = ValkeyLog(proxy.url, 1000)
        derived = DerivedKeys(away)
        derived.damaged("healed", 0)
        proxy.refusing = True
        derived.damaged("lost", 3)
        derived.damaged("healed", 20)
        await derived.flush()
        derived.damaged("lost", 4)
        await derived.flush()
        assert await counted() == before
        proxy.refusing = False
        derived.record(Record(user, "away", 1, True), "g2")
        await derived.flush()
        await derived.flush()
        away.close()
    now = await counted()
    rise = {what: now[what] - before.get(what, 0) for what in ("lost", "healed")}
    assert rise == {"lost": 7, "healed": 20}, "once"


async def test_only_the_latest_rooms_of_a_user_are_kept(
    log: ValkeyLog, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived_module, "ROOMS_KEPT", 3)
    derived = DerivedKeys(log)
    for n in range(6):
        derived.touch(f"room:dm_{n}", (user,), n)
    await derived.flush()
    (found,) = await log.execute([("ZRANGE", keys.user_rooms(user), "0", "-1")])
    assert found == [b"dm_3", b"dm_4", b"dm_5"]


async def test_gateways_are_called_on_their_channels(
    log: ValkeyLog, valkey_url: str, user: str
) -> None:
    client = Valkey(valkey_url)
    gateways = {f"g1{user}", f"g2{user}"}
    channels = [keys.gateway_channel(gateway) for gateway in sorted(gateways)]
    heard = client.listen(*channels)
    assert await anext(heard) is None
    derived = DerivedKeys(log)
    derived.call_gateways(gateways, "room:x")
    await derived.flush()
    found = [await anext(heard) for _ in channels]
    assert found == [(channel, "room:x") for channel in channels]
    await heard.aclose()
    client.close()


async def test_what_collects_meanwhile_is_one_pipeline(valkey_url: str) -> None:
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        await log.epoch("room:none")
        before = len(proxy.sent)
        derived = DerivedKeys(log)
        for n in range(20):
            derived.record(Record(f"user_{n}", "online", 1, True), "g")
        await derived.flush()
        (chunk,) = proxy.sent[before:]
        assert chunk.count(b"HSET") == 20
        log.close()


async def test_what_cannot_be_written_is_forgotten(valkey_url: str, user: str) -> None:
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        derived = DerivedKeys(log)
        proxy.refusing = True
        derived.record(Record(user, "busy", 1, True), "g1")
        await derived.flush()
        proxy.refusing = False
        derived.record(Record(user, "away", 1, True), "g2")
        await derived.flush()
        assert (await record_of(log, user))[b"status"] == b"away"
        log.close()


async def test_what_waits_is_bounded_and_nothing_stays_for_ever(
    valkey_url: str,
    admin_valkey: valkey.Valkey,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(derived_module, "MAX_WAITING", 2)
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        await log.epoch("room:none")
        before = len(proxy.sent)
        derived = DerivedKeys(log)
        for n in range(10):
            derived.record(Record(f"{user}{n}", "online", 1, True), "g1")
        await derived.flush()
        written = b"".join(proxy.sent[before:])
        assert written.count(b"HSET") == written.count(b"EXPIRE") == 2
        assert admin_valkey.ttl(keys.presence(f"{user}1")) > 0
        assert await record_of(log, f"{user}2") == {}
        log.close()


async def test_flushing_nothing_returns_at_once(log: ValkeyLog) -> None:
    await DerivedKeys(log).flush()
