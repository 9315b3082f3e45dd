"""The snapshot's format: versioned, and harmless when it is not ours."""

import msgspec

from cfmessenger.chat import mirror
from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.history import KeptRow

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
