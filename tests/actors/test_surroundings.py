"""What objects of a process share, as `Surroundings` itself gives it."""

import pytest

from actors.activation import Activation
from actors.guests import all_kinds
from actors.surroundings import Surroundings
from cfmessenger.clock import Clock
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.log import ValkeyLog
from tests.actors.scene import UNLIMITED, Scene, Visitor, fresh_room


async def test_objects_of_one_process_share_one_committer(valkey_url: str) -> None:
    scene = Scene(valkey_url)
    a, b = Visitor("gA"), Visitor("gB")
    one = await scene.live(fresh_room(), a, "gA.1")
    two = await scene.live(fresh_room(), b, "gB.1")
    assert one._around.committer is two._around.committer is scene.committer
    assert one._around.log is two._around.log
    scene.close()


async def test_nobody_ends_unheard_and_trust_is_the_hosts_business(
    valkey_url: str,
) -> None:
    log = ValkeyLog(valkey_url, 1000)
    around = Surroundings(log, DerivedKeys(log), all_kinds(UNLIMITED, []), Clock())
    room = Activation("room:x", around)
    assert around.trusted(room)
    with pytest.raises(NotImplementedError):
        around.gone(room, "idle")
