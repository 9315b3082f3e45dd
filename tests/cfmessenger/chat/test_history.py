"""The buffer, the ids that count, and receipts that only go up."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.chat.compose import fingerprint
from cfmessenger.chat.history import (
    BUFFER,
    DEDUPE_MESSAGES,
    DEDUPE_MS,
    History,
    KeptRow,
)
from cfmessenger.wire import protocol
from cfmessenger.wire.events import ChatMessage, read_event
from cfmessenger.wire.protocol import encode


def event(seq: int, sender_id: str = "user_1", id_: str | None = None) -> bytes:
    return encode(
        ChatMessage(
            id_ or f"m{seq}",
            "general",
            sender_id,
            "One",
            "hello",
            seq,
            seq,
            False,
            False,
        )
    )


def filled(count: int) -> History:
    history = History()
    for seq in range(1, count + 1):
        history.add(1, seq, "user_1", f"m{seq}", seq, event(seq), seq)
    return history


def shown(frame: bytes) -> list[int]:
    return [message["seq"] for message in msgspec.json.decode(frame)["messages"]]


def gap(frame: bytes) -> bool:
    return bool(msgspec.json.decode(frame)["gap"])


def test_the_buffer_is_the_latest_hundred() -> None:
    history = filled(250)
    assert len(history) == BUFFER == 100
    assert shown(history.frame("general", 250)) == list(range(151, 251))


def test_what_left_the_buffer_is_known_by_id_alone() -> None:
    history = filled(101)
    gone, kept = history.find("user_1", "m1"), history.find("user_1", "m2")
    assert gone is not None and kept is not None
    assert (gone.event, gone.seq) == (b"", 1)
    assert kept.event == event(2)


@pytest.mark.parametrize(
    ("since", "seqs", "gap"),
    [
        (150, list(range(151, 251)), False),
        (151, list(range(152, 251)), False),
        (249, [250], False),
        (250, [], False),
        (251, [], True),
        (10_000, [], True),
    ],
)
def test_since_is_answered_exactly(since: int, seqs: list[int], gap: bool) -> None:
    frame = filled(250).frame("general", 250, since)
    assert shown(frame) == seqs
    answer = msgspec.json.decode(frame)
    assert (answer["lastSeq"], answer["gap"]) == (250, gap)


def test_the_buffer_reaches_as_far_as_it_holds() -> None:
    history = filled(250)
    assert history.reaches(150) and history.reaches(300)
    assert not history.reaches(149)
    assert history.events_after("general", 248, 250) == [event(249), event(250)]
    assert history.events_after("general", 250, 250) == []
    assert history.events_after("general", 149, 250) is None


def test_what_the_log_has_lost_is_a_gap_for_whoever_resumes_across_it() -> None:
    history = History()
    for seq in (4, 5, 8, 9):
        history.add(1, seq, "user_1", f"m{seq}", seq, event(seq), 0)
    assert history.reaches(3) and not history.reaches(2)
    assert not gap(history.frame("general", 9))
    for since, seqs, lost in ((3, [4, 5, 8, 9], True), (5, [8, 9], True)):
        frame = history.frame("general", 9, since)
        assert (shown(frame), gap(frame)) == (seqs, lost)
    assert shown(history.frame("general", 9, 7)) == [8, 9]
    assert not gap(history.frame("general", 9, 7))
    hole = protocol.history_frame([], "general", 7, True)
    found = history.events_after("general", 3, 9)
    assert found == [event(4), event(5), hole, event(8), event(9)]
    # Numbers go on above what is gone for good.
    assert gap(history.frame("general", 20, 9))
    end = protocol.history_frame([], "general", 20, True)
    assert history.events_after("general", 9, 20) == [end]


def test_the_whole_frame_is_encoded_once() -> None:
    history = filled(3)
    assert history.frame("general", 3) is history.frame("general", 3)
    assert history.frame("general", 3, 0) is history.frame("general", 3)
    history.add(1, 4, "user_1", "m4", 4, event(4), 4)
    assert shown(history.frame("general", 4)) == [1, 2, 3, 4]


def test_ids_count_for_a_thousand_messages_however_old() -> None:
    history = filled(DEDUPE_MESSAGES)
    history.forget(10**12)
    assert history.find("user_1", "m1") is not None
    history.add(1, 1001, "user_1", "m1001", 10**12, event(1001), 1001)
    history.forget(10**12)
    assert history.find("user_1", "m1") is None
    assert history.find("user_1", "m2") is not None


def test_ids_count_for_sixty_seconds_however_many() -> None:
    history = filled(3_000)
    history.forget(1 + DEDUPE_MS)
    assert history.find("user_1", "m1") is not None
    history.forget(2 + DEDUPE_MS)
    assert history.find("user_1", "m1") is None
    assert history.find("user_1", "m2") is not None
    history.forget(10**12)
    assert history.find("user_1", "m2000") is None
    assert history.find("user_1", "m2001") is not None
    assert len(history._kept) == len(history._sent) == len(history._newest) == 1000


def test_an_id_used_again_after_its_time_is_forgotten_with_the_newer() -> None:
    # As a log replayed at once shows it: the window had passed in between.
    history = filled(1)
    history.add(1, 2, "user_1", "m1", 2, event(2, id_="m1"), 2)
    for seq in range(3, 1_003):
        history.add(1, seq, "user_2", f"x{seq}", seq, event(seq), seq)
    history.forget(1 + 1 + DEDUPE_MS)
    kept = history.find("user_1", "m1")
    assert kept is not None and kept.seq == 2
    history.forget(10**12)
    assert history.find("user_1", "m1") is None


def test_the_newest_of_someone_else_is_acknowledged() -> None:
    history = History()
    for seq, sender in enumerate(["user_1", "user_2", "user_1"], 1):
        history.add(1, seq, sender, "same", seq, event(seq, sender, "same"), seq)

    def newest(reader: str) -> int | None:
        kept = history.newest_for(reader, "same")
        return None if kept is None else kept.seq

    assert [newest(f"user_{n}") for n in (1, 2, 3)] == [2, 3, 3]
    assert history.newest_for("user_1", "other") is None


def test_equal_ids_do_not_pile_up() -> None:
    history = History()
    for seq in range(1, 5_000):
        sender = f"user_{seq % 3}"
        history.add(1, seq, sender, "same", seq, event(seq, sender, "same"), seq)
        history.forget(10**12)
    kept, length = history._newest["same"], 0
    while (older := kept.older) is not None:
        kept, length = older, length + 1
    assert length < DEDUPE_MESSAGES


def test_receipts_only_go_up_and_show_in_history() -> None:
    history = filled(2)
    kept = history.find("user_1", "m1")
    assert kept is not None
    assert history.upgrade(kept, "delivered")
    assert not history.upgrade(kept, "delivered")
    assert history.upgrade(kept, "read")
    assert not history.upgrade(kept, "delivered")
    first, second = msgspec.json.decode(history.frame("general", 2))["messages"]
    assert first["status"] == "read"
    assert "status" not in second
    # The original echo, and the log, have none.
    assert history.events_after("general", 0, 2) == [event(1), event(2)]


def test_a_receipt_for_what_left_the_buffer_is_kept_without_json() -> None:
    history = filled(150)
    kept = history.find("user_1", "m1")
    assert kept is not None
    assert history.upgrade(kept, "read")
    assert not history.upgrade(kept, "delivered")
    assert kept.shown == b""


@given(
    st.lists(
        st.tuples(st.sampled_from(["user_1", "user_2"]), st.sampled_from("abc")),
        max_size=130,
    ),
    st.lists(st.tuples(st.integers(0, 129), st.sampled_from(["delivered", "read"]))),
)
def test_a_snapshot_restores_everything(
    messages: list[tuple[str, str]], receipts: list[tuple[int, str]]
) -> None:
    history, kept = History(), []
    for seq, (sender, id_) in enumerate(messages, 1):
        said = event(seq, sender, id_)
        kept.append(history.add(2, seq, sender, id_, seq, said, seq))
    for index, status in receipts:
        if index < len(kept):
            history.upgrade(kept[index], status)
    twin = History()
    twin.restore(history.snapshot())
    assert twin.snapshot() == history.snapshot()
    seq = len(messages)
    assert twin.frame("general", seq) == history.frame("general", seq)
    for sender, id_ in messages:
        one, two = history.newest_for(sender, id_), twin.newest_for(sender, id_)
        assert (one and one.seq) == (two and two.seq)
        mine, twins = history.find(sender, id_), twin.find(sender, id_)
        assert mine is not None and twins is not None
        assert (mine.seq, mine.epoch) == (twins.seq, twins.epoch)
        assert mine.said == twins.said


def test_rows_from_before_fingerprints_get_them_where_the_words_are_there() -> None:
    old = [tuple(msgspec.structs.astuple(row))[:7] for row in filled(101).snapshot()]
    rows = msgspec.convert(old, list[KeptRow])
    history = History()
    history.restore(rows)
    gone, kept = history.find("user_1", "m1"), history.find("user_1", "m101")
    assert gone is not None and kept is not None
    assert gone.said == 0
    assert kept.said == fingerprint(read_event(101, event(101))[0])
