"""A guest that the runtime has never heard of, in whole actors behind real gateways."""

import pytest
import valkey
from msgspec import msgpack

from actors.guests import Guest, Invitation, all_kinds, arrive
from actors.host_settings import HostSettings
from cfmessenger.chat.machine import BLANK
from tests.actors import toy_guest
from tests.actors.scene import UNLIMITED
from tests.actors.toy_guest import KEY, TALLY
from tests.gateway.node import eventually, live, new_room


async def test_a_guest_hears_rooms_tells_them_on_the_hour_sleeps_and_goes_on(
    empty_valkey: str, admin_valkey: valkey.Valkey
) -> None:
    guests = (toy_guest.invite(300),)
    async with live(empty_valkey, guests=guests, hibernate_after="0.2") as node:
        room, other = new_room(), new_room()
        al, bo = await node.enter("user_1", room), await node.enter("user_2", other)
        for n in range(2):
            await al.say(f"line {n}")
        await bo.say("elsewhere")
        await al.wait("chat", senderId="toy", content="2 so far")
        await bo.wait("chat", senderId="toy", content="1 so far")
        await eventually(lambda: admin_valkey.get(KEY) == b"3")
        await node.asleep(TALLY)
        await al.say("and again")
        await al.wait("chat", senderId="toy", content="3 so far")
        await eventually(lambda: admin_valkey.get(KEY) == b"4")
        assert [f["content"] for f in bo.of("chat") if f["senderId"] == "toy"] == [
            "1 so far"
        ], "who said nothing new is told nothing"


def test_two_kinds_of_one_name_are_refused() -> None:
    toys = arrive([toy_guest.invite(1), toy_guest.invite(1)])
    with pytest.raises(ValueError, match="toy brings what is there"):
        all_kinds(UNLIMITED, toys)


def test_a_process_without_the_guest_knows_no_such_object() -> None:
    assert all_kinds(UNLIMITED, arrive([toy_guest.invite(1)])).of(TALLY).fresh(BLANK)
    with pytest.raises(ValueError):
        all_kinds(UNLIMITED, []).of(TALLY)


def test_an_invitation_travels_in_an_actors_settings() -> None:
    sent = HostSettings(
        "unix:///v", 9, 1.0, (0, 1), (0, 1), guests=(toy_guest.invite(7),)
    )
    found = msgpack.decode(msgpack.encode(sent), type=HostSettings)
    (guest,) = arrive(found.guests)
    assert isinstance(guest, Guest) and guest.name == "toy"
    with pytest.raises(ModuleNotFoundError):
        arrive([Invitation("tests.actors.no_guest")])
