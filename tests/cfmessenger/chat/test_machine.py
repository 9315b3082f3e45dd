"""What every machine has from its birth, and what one does that says nothing itself."""

import pytest

from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.machine import Life, Machine
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules

ANN = Attachment("g.1", "user_1", "Ann", "online")
LIFE = Life(epoch=7, previous_epoch=5, crashed=True)


def test_without_verbs_of_its_own_it_takes_everything_and_does_nothing() -> None:
    machine = Machine()
    assert machine.connect(1, ANN, None) == machine.message(2, "g.1", b"{}", "id") == []
    assert machine.attach(3, "h", [ANN]) == machine.change(4, ANN) == []
    machine.missed("g")
    assert machine.gateways == {"g", "h"}
    assert machine.close(5, "g.1") == machine.detach(6, "g") == []
    assert machine.notify(7, b"\xc1") == machine.alarm(8) == []
    machine.absent.add("h")
    assert machine.give_up(9) == []
    assert machine.gateways == {"h"}
    assert (machine.sockets, machine.alarm_at, machine.absent) == (0, None, set())
    assert machine.events_after(0) == []
    assert (machine.snapshot(), machine.receipts_changed) == (b"", False)


def test_what_was_logged_is_numbered() -> None:
    machine = Machine()
    machine.replay(1, 1, 4, b"{}")
    assert machine.seq == 4
    machine.skip(9)
    assert machine.seq == 9


@pytest.mark.parametrize(
    "born",
    [
        Machine(LIFE),
        Room("general", RoomRules(), LIFE),
        Room.restore("general", RoomRules(), b"", True, LIFE),
        Room.restore(
            "general", RoomRules(), Room("general", RoomRules()).snapshot(), True, LIFE
        ),
        Presence(LIFE),
        Presence.restore(b"", True, (), LIFE),
        Presence.restore(Presence().snapshot(), True, (), LIFE),
    ],
)
def test_a_machine_knows_its_life_from_its_birth(born: Machine) -> None:
    assert (born.epoch, born.previous_epoch, born.crashed) == (7, 5, True)
