"""What the bots bring to an actor process, and which of it goes where."""

import msgspec
import pytest

from actors.bots.guest import invite
from actors.guests import all_kinds, arrive
from actors.host_settings import HostSettings
from cfmessenger.accounts.users import Directory
from cfmessenger.bots import DIRECTOR, NAME
from cfmessenger.bots.director import Director
from cfmessenger.chat.effects import Published, Tell, Wants, encode_notification
from cfmessenger.chat.machine import BLANK, Machine
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room
from cfmessenger.ids import PRESENCE
from cfmessenger.placement import Placement
from cfmessenger.settings import Settings
from cfmessenger.wire.protocol import Participant
from tests.actors.scene import UNLIMITED, attachment

BOT = Directory.load().bots[0]


def settings(**more: str) -> Settings:
    return Settings.load({"CFM_VALKEY_URL": "unix:///v"} | more)


def made(name: str, **more: str) -> Machine:
    return all_kinds(UNLIMITED, arrive(invite(settings(**more)))).of(name).fresh(BLANK)


def test_a_node_with_bots_has_a_director_and_one_without_has_none() -> None:
    director = made(DIRECTOR)
    assert isinstance(director, Director)
    assert invite(settings(CFM_BOTS_ACTIVE="0")) == ()
    with pytest.raises(ValueError):
        made(DIRECTOR, CFM_BOTS_ACTIVE="0")


def test_rooms_know_whom_they_can_ask() -> None:
    for active, asks in (("1", True), ("0", False)):
        room = made("room:general", CFM_BOTS_ACTIVE=active)
        assert isinstance(room, Room)
        room.connect(1, attachment("g.1"), None)
        said = b'{"type":"chat","content":"@%s"}' % BOT.display_name.encode()
        effects = room.message(2, "g.1", said, "id")
        assert any(getattr(e, "target", "") == DIRECTOR for e in effects) == asks


@pytest.mark.parametrize("clean", [True, False])
def test_a_registry_without_bots_sends_those_of_the_past_away(clean: bool) -> None:
    before = Presence()
    shown = Participant(BOT.id, BOT.display_name, "online")
    before.notify(1, encode_notification(Published(NAME, (shown,))))
    before.alarm(1000)
    for active, there in (("1", True), ("0", False)):
        kinds = all_kinds(UNLIMITED, arrive(invite(settings(CFM_BOTS_ACTIVE=active))))
        after = kinds.of(PRESENCE).restore(BLANK, before.snapshot(), clean)
        after.alarm(2000)
        after.connect(3000, attachment("g.1"), None)
        after.want(3000, "g", Wants(1, True, ["user_1"], []))
        (told,) = after.alarm(4000)
        assert isinstance(told, Tell) and told.news.whole
        assert (BOT.id in told.news.everybody) == there
        assert (BOT.id in {who.id for who in told.news.people}) == there


AI = {
    "CFM_AI_BASE_URL": "https://u:sesame1@ai.example",
    "CFM_AI_MODEL": "m",
    "CFM_AI_KEY": "sesame2",
}


def test_the_director_reads_where_the_ai_server_is_where_it_runs_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = settings(**AI)
    whole = HostSettings.of(node, invite(node))
    here = {"CFM_VALKEY_URL": "valkey://u:sesame3@v"}
    for actor in (DIRECTOR, PRESENCE, "room:general", "rooms:0"):
        sent = whole.for_actor(actor, Placement()).on_the_way()
        told = msgspec.msgpack.encode(sent)
        assert b"sesame" not in told
        there = msgspec.msgpack.decode(told, type=HostSettings).completed(here | AI)
        (guest,) = arrive(there.guests)
        bots = guest._mind.bots  # type: ignore[attr-defined]
        said = bots.ai_base_url, bots.ai_key
        mine = (AI["CFM_AI_BASE_URL"], AI["CFM_AI_KEY"])
        assert said == (mine if actor == DIRECTOR else (None, None))
    assert not caplog.messages
    there = whole.for_actor(DIRECTOR, Placement()).on_the_way().completed(here)
    arrive(there.guests)
    assert caplog.messages == [
        "the bots answer by script: CFM_AI_BASE_URL is not set here"
    ]
