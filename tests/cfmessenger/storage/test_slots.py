"""Slots and the map of them: as the specification of Valkey Cluster has them."""

import pytest
import valkey
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.storage import keys
from cfmessenger.storage.slots import (
    SLOTS,
    Address,
    Redirect,
    Topology,
    common_slot,
    keys_of,
    redirect_of,
    slot_of,
    tagged,
    topology_of,
)

A, B, C = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379), Address("::1", 7000)


def crc16(data: bytes) -> int:
    """As the specification writes it down: XMODEM, bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1 & 0xFFFF
    return crc


def test_the_checksum_is_that_of_the_specification() -> None:
    assert crc16(b"123456789") == 0x31C3
    assert slot_of("123456789") == 0x31C3 % SLOTS


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("foo", "foo"),
        ("{user1000}.following", "user1000"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("foo{bar", "foo{bar"),
        ("foo}bar{", "foo}bar{"),
        ("}{a}", "a"),
        ("{", "{"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_what_is_in_the_first_braces_decides(key: str, tag: str) -> None:
    assert tagged(key) == tag
    assert slot_of(key) == crc16(tag.encode()) % SLOTS


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("{}"))))
def test_any_key_has_the_slot_that_the_specification_gives_it(key: str) -> None:
    raw = key.encode()
    start = raw.find(b"{")
    if start >= 0 and (end := raw.find(b"}", start + 1)) > start + 1:
        raw = raw[start + 1 : end]
    assert slot_of(key) == crc16(raw) % SLOTS


def test_every_slot_is_reached_and_rooms_are_spread_evenly() -> None:
    counts = [0] * 3
    for n in range(30_000):
        counts[slot_of(keys.log(f"room:r{n}")) * 3 // SLOTS] += 1
    assert max(counts) - min(counts) < 0.05 * 10_000
    assert {slot_of(str(n)) for n in range(200_000)} == set(range(SLOTS))


def test_a_server_says_the_same_slots(admin_valkey: valkey.Valkey) -> None:
    for key in ("cfm:{room:a}:log", "x{}", "{a}{b}", "ünï{cödé}", "", "a{b"):
        found = admin_valkey.execute_command("CLUSTER", "KEYSLOT", key)  # type: ignore[no-untyped-call]
        assert found == slot_of(key)


def test_all_of_an_object_is_in_one_slot() -> None:
    for name in ("room:general", "presence:global", "bots:director", "rooms:3"):
        names = (keys.log, keys.mirror, keys.reads, keys.hint)
        assert len({slot_of(make(name)) for make in names}) == 1


# The map.


def slots_reply(*ranges: tuple[int, int, Address | None]) -> list[object]:
    """As CLUSTER SLOTS answers, each with a replica."""
    replica = [b"10.0.0.9", 6379, b"id9", []]
    return [
        [
            first,
            last,
            [b"?" if at is None else at.host.encode(), at.port if at else 1, b"id", []],
            replica,
        ]
        for first, last, at in ranges
    ]


def test_the_map_is_what_cluster_slots_says() -> None:
    reply = slots_reply((0, 99, A), (100, 16382, B), (16383, 16383, A))
    found = topology_of(reply, C)
    assert found.primaries == (A, B)
    assert [found.owners[n] for n in (0, 99, 100, 16382, 16383)] == [A, A, B, B, A]


def test_a_slot_that_nobody_has_has_no_owner() -> None:
    found = topology_of(slots_reply((5, 6, A)), C)
    assert (found.owners[4], found.owners[5], found.owners[7]) == (None, A, None)
    assert len(found.owners) == SLOTS


@pytest.mark.parametrize("host", [b"", None])
def test_a_server_that_knows_no_name_for_itself_is_where_it_was_asked(
    host: bytes | None,
) -> None:
    found = topology_of([[0, 16383, [host, 7001, b"id"]]], A)
    assert found.primaries == (Address(A.host, 7001),)


def test_who_is_to_announce_a_name_and_has_none_is_left_out() -> None:
    found = topology_of(slots_reply((0, 99, None), (100, 200, A)), C)
    assert found.primaries == (A,)
    assert found.owners[0] is None
    with pytest.raises(ValueError, match="no server"):
        topology_of(slots_reply((0, 99, None)), C)


@pytest.mark.parametrize(
    "reply",
    [
        *(None, 1, b"OK", [1], [[]], [[0, 1]], [[0, 16384, [b"a", 1]]]),
        *([[b"x", 1, [b"a", 1]]], [[0, 1, [b"a", b"x"]]], [[0, 1, b"a"]]),
        *([[0, 1, [b"\xff", 1]]], [[2, 1, [b"a", 1]]], [[0, 10**15, [b"a", 1]]]),
    ],
)
def test_what_is_no_map_is_refused(reply: object) -> None:
    with pytest.raises(ValueError):
        topology_of(reply, A)


def test_an_empty_map_names_nobody() -> None:
    with pytest.raises(ValueError, match="no server"):
        topology_of([], A)


@given(st.integers(0, SLOTS - 1), st.sampled_from([A, B, C]))
def test_a_slot_that_moved_is_there_and_all_others_where_they_were(
    slot: int, to: Address
) -> None:
    before = topology_of(slots_reply((0, 8000, A), (8001, 16383, B)), C)
    after = before.moved(slot, to)
    assert after.owners[slot] == to
    assert to in after.primaries
    assert len(set(after.primaries)) == len(after.primaries)
    others = set(range(SLOTS)) - {slot}
    assert all(after.owners[n] == before.owners[n] for n in others)
    assert isinstance(before, Topology) and len(after.owners) == SLOTS


# What an error says.


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("MOVED 3999 10.0.0.2:6379", Redirect("moved", 3999, B)),
        ("ASK 3999 10.0.0.2:6379", Redirect("ask", 3999, B)),
        ("MOVED 0 ::1:7000", Redirect("moved", 0, C)),
        ("MOVED 0 [::1]:7000", Redirect("moved", 0, C)),
        ("MOVED 1 :7001", Redirect("moved", 1, Address(A.host, 7001))),
        ("MOVED 16383 a.b:1", Redirect("moved", 16383, Address("a.b", 1))),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Redirect("later")),
        ("CLUSTERDOWN The cluster is down", Redirect("later")),
        ("CLUSTERDOWN Hash slot not served", Redirect("later")),
        ("LOADING Valkey is loading the dataset in memory", Redirect("later")),
        ("MOVED", None),
        ("MOVED x 10.0.0.2:6379", None),
        ("MOVED 16384 10.0.0.2:6379", None),
        ("MOVED -1 10.0.0.2:6379", None),
        ("ASK 1 10.0.0.2", None),
        ("ASKING", None),
        ("ERR MOVED 1 10.0.0.2:6379", None),
        ("READONLY You can't write against a read only replica.", None),
        ("CROSSSLOT Keys in request don't hash to the same slot", None),
        ("OOM command not allowed", None),
        ("", None),
    ],
)
def test_what_an_error_says_of_where_to_go(error: str, said: Redirect | None) -> None:
    assert redirect_of(error, A) == said


# Transactions.


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("DEL", "a", "b"), ("a", "b")),
        (("EXISTS", "a", "b"), ("a", "b")),
        (("RENAME", "a", "b"), ("a", "b")),
        (("ZADD", "a", "1", "b"), ("a",)),
        (("XINFO", "STREAM", "a"), ("a",)),
        (("PUBLISH", "a", "b"), ()),
        (("TIME",), ()),
    ],
)
def test_the_keys_of_a_command(
    command: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert keys_of(command) == found


def test_a_transaction_is_of_one_slot() -> None:
    ours = [("RENAME", "a{x}", "b{x}"), ("PUBLISH", "elsewhere", ""), ("DEL", "{x}")]
    assert common_slot("c{x}", ours) == slot_of("x")
    for wrong in (("DEL", "{x}", "{y}secret"), ("SET", "{y}secret", "1")):
        with pytest.raises(ValueError, match="several slots") as caught:
            common_slot("{x}", [*ours, wrong])
        assert "secret" not in str(caught.value)
