"""Names and the machines behind them."""

import pytest

from cfmessenger.chat.machine import BLANK, Machine
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.ids import PRESENCE
from tests.actors.scene import UNLIMITED, attachment, chat, kind_of


def test_a_room_is_a_room_and_the_registry_the_registry() -> None:
    assert isinstance(kind_of("room:general", UNLIMITED).fresh(BLANK), Room)
    assert isinstance(kind_of(PRESENCE, UNLIMITED).fresh(BLANK), Presence)


@pytest.mark.parametrize("name", ["", "general", "presence:other", "rooms:1", "Room:x"])
def test_another_name_is_none(name: str) -> None:
    with pytest.raises(ValueError):
        kind_of(name, UNLIMITED)


def test_every_fresh_machine_is_its_own() -> None:
    kind = kind_of("room:general", UNLIMITED)
    one, two = kind.fresh(BLANK), kind.fresh(BLANK)
    one.connect(1, attachment("g.1"), None)
    assert (one.sockets, two.sockets) == (1, 0)


def test_a_room_knows_its_id_and_its_rules() -> None:
    rules = RoomRules(chat_rate=(1, 10), nudge_rate=(1, 10))
    room = kind_of("room:general", rules).fresh(BLANK)
    room.connect(1, attachment("g.1"), None)
    first = room.message(2, "g.1", chat("one"), "id")
    assert b'"roomId":"general"' in first[0].event
    room.message(3, "g.1", chat("two"), "id2")
    assert room.seq == 1, "one chat in ten seconds"


@pytest.mark.parametrize("name", ["room:general", "room:dm_a__b", PRESENCE])
@pytest.mark.parametrize("clean", [True, False])
def test_a_snapshot_is_restored_clean_or_not(name: str, clean: bool) -> None:
    kind = kind_of(name, UNLIMITED)
    before = kind.fresh(BLANK)
    before.connect(1, attachment("g.1", "a"), None)
    before.message(2, "g.1", chat("hello"), "id")
    after = kind.restore(BLANK, before.snapshot(), clean)
    assert after.seq == before.seq
    assert after.sockets == (1 if clean else 0)
    assert after.gateways == ({"g"} if clean else set())


@pytest.mark.parametrize(
    ("name", "inherited"),
    [
        ("room:general", "gateways absent want missed skip"),
        (
            PRESENCE,
            "gateways absent events_after missed give_up replay skip lost recollect",
        ),
    ],
)
def test_no_verb_of_a_room_or_the_registry_is_forgotten(
    name: str, inherited: str
) -> None:
    mine = type(kind_of(name, UNLIMITED).fresh(BLANK))
    verbs = [verb for verb in vars(Machine) if not verb.startswith("_")]
    assert len(verbs) > 10
    same = [verb for verb in verbs if getattr(mine, verb) is getattr(Machine, verb)]
    assert same == inherited.split()
