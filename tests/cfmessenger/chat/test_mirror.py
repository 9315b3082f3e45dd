"""The snapshot's format: versioned, and harmless when it is not ours."""

import json
from pathlib import Path
from typing import Any

import msgspec

from cfmessenger.chat import mirror
from cfmessenger.chat.effects import Attachment, Read, Send
from cfmessenger.chat.history import KeptRow
from cfmessenger.chat.room import Room, RoomRules

SNAPSHOT = mirror.RoomSnapshot(
    seq=1,
    timestamp=5,
    messages=[KeptRow(1, 1, "user_1", "m1", 5, b"{}", "read")],
    chats={"user_1": [5]},
    nudges={},
    read_marks={"user_1": 1},
    roster=[Attachment("g.1", "user_1", "One", "online")],
    gateways=["g"],
    stale=False,
)


def test_a_snapshot_round_trips() -> None:
    assert mirror.decode(mirror.encode(SNAPSHOT)) == SNAPSHOT


def test_the_read_marks_can_be_read_alone() -> None:
    assert mirror.read_marks(mirror.encode(SNAPSHOT)) == {"user_1": 1}


def test_what_is_not_ours_is_worth_nothing() -> None:
    other = msgspec.msgpack.encode({"type": mirror.VERSION + 1, "seq": 9})
    for data in (b"", b"\xc1", other, mirror.encode(SNAPSHOT)[:-1], b"\xa1\xff"):
        assert mirror.decode(data) is None
        assert mirror.read_marks(data) == {}


class Later(msgspec.Struct, frozen=True, tag=3):
    """What a snapshot may be one day."""

    seq: int
    messages: list[KeptRow]
    limits: dict[str, dict[str, list[int]]]
    place: str


def _limits(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "limits": {"chat": fields["chats"], "nudge": fields["nudges"]}}


def _place(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "place": "uk"}


def test_an_older_snapshot_is_upgraded_with_its_statuses() -> None:
    later = mirror.Snapshots(Later, (_limits, _place))
    found = later.decode(mirror.encode(SNAPSHOT))
    limits = {"chat": {"user_1": [5]}, "nudge": {}}
    assert found == Later(1, SNAPSHOT.messages, limits, "uk")
    assert later.decode(mirror.encode(found)) == found
    assert mirror.decode(mirror.encode(found)) is None


def test_a_later_snapshot_is_told_from_one_that_is_damaged() -> None:
    later = mirror.encode(Later(1, [], {}, "uk"))
    assert mirror.is_later(later)
    assert not mirror.Snapshots(Later, (_limits, _place)).is_later(later)
    for data in (b"", b"\xc1", later[:-1][:3], b"\xa1\xff", mirror.encode(SNAPSHOT)):
        assert not mirror.is_later(data)


def test_snapshots_may_begin_with_a_version_of_which_there_is_no_path() -> None:
    later = mirror.Snapshots(Later, (_place,), first=2)
    second = {"type": 2, "seq": 1, "messages": [], "limits": {}}
    assert later.decode(msgspec.msgpack.encode(second)) == Later(1, [], {}, "uk")
    assert later.decode(msgspec.msgpack.encode({**second, "type": 1})) is None


def test_an_older_snapshot_that_is_damaged_is_worth_nothing() -> None:
    later = mirror.Snapshots(Later, (_limits, _place))
    assert later.decode(msgspec.msgpack.encode({"type": 1, "seq": 1})) is None
    assert later.decode(msgspec.msgpack.encode({"type": 0, "seq": 1})) is None


def test_the_read_marks_of_every_version_can_be_read() -> None:
    later = msgspec.msgpack.encode({"type": 9, "read_marks": {"user_1": 1}})
    assert mirror.read_marks(later) == {"user_1": 1}


BEFORE = json.loads(Path(__file__).with_name("before_versions.json").read_text())


def test_what_the_release_before_versions_wrote_opens() -> None:
    """Log and mirror as that release wrote them, byte for byte."""
    saved, log = bytes.fromhex(BEFORE["mirror"]), BEFORE["log"]
    room = Room.restore("dm_user_1__user_2", RoomRules(), saved, clean=True)
    assert (room.seq, room.gateways, room.sockets) == (3, {"g1", "g2"}, 2)
    room.replay(BEFORE["now"] + 9_000, BEFORE["epoch"], 4, log[3].encode())
    assert room.events_after(0) == [event.encode() for event in log]
    (_, history, *_) = room.connect(
        BEFORE["now"] + 9_000, Attachment("g3.1", "user_1", "One", "online"), None
    )
    assert isinstance(history, Send)
    shown = msgspec.json.decode(history.frame)["messages"]
    statuses = [message.pop("status", None) for message in shown]
    assert statuses == ["read", None, "delivered", None]
    assert shown == [json.loads(event) for event in log]
    assert mirror.read_marks(saved) == {"user_2": 1}
    assert Read("user_2", 1) in room.attach(BEFORE["now"] + 9_000, "g1", [])
    kept = mirror.decode(room.snapshot())
    assert kept is not None
    assert [row.event.decode() for row in kept.messages] == log
