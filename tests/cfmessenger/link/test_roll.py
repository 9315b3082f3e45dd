"""What each socket of a crowd is told: the same, and itself."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.chat.effects import Attachment
from cfmessenger.link.roll import PersonalRoll
from cfmessenger.load.actor_room import payloads
from cfmessenger.wire import protocol
from cfmessenger.wire.protocol import Participant, Participants


def person(number: int, message: str | None = None) -> Attachment:
    user_id = f"user_{number}"
    return Attachment(f"g.{number}", user_id, user_id, "busy", personal_message=message)


def roll_of(named: int, total: int) -> PersonalRoll:
    """The latest of `total`, of whom the last has the highest number."""
    users = tuple(f"user_{n}" for n in range(total - named, total))
    people = [Participant(each, each, "online") for each in users]
    frame = protocol.encode(Participants("room", people, total))
    start = frame.index(b"[") + 1
    end = start + len(protocol.encode(people[0]))
    return PersonalRoll(frame, start, end, users)


def read(pieces: tuple[bytes, ...]) -> tuple[list[str], int]:
    frame = b"".join(pieces)
    [payload] = payloads(frame)
    assert frame[0] == 0x81
    told = msgspec.json.decode(payload, type=Participants)
    assert isinstance(told.total, int)
    return [each.id for each in told.participants], told.total


def test_who_is_named_gets_the_rooms_own_frame_and_others_themselves_first() -> None:
    roll = roll_of(3, 9)
    assert read(roll.for_one(person(7))) == (["user_6", "user_7", "user_8"], 9)
    assert read(roll.for_one(person(6))) == (["user_6", "user_7", "user_8"], 9)
    assert read(roll.for_one(person(2))) == (["user_2", "user_7", "user_8"], 9)


def test_somebody_finds_their_own_words_and_status() -> None:
    pieces = roll_of(3, 9).for_one(person(2, 'sagt "hü"'))
    assert b'"personalMessage":"sagt \\"h\xc3\xbc\\""' in b"".join(pieces)
    assert b'"status":"busy"' in b"".join(pieces)


def test_all_that_is_long_is_one_object_for_everybody() -> None:
    roll = roll_of(3, 7)
    told = [roll.for_one(person(n)) for n in range(7)]
    pieces = Counter(id(piece) for each in told for piece in each)
    # Four are too old to be named: their own beginning each, and one end for all.
    assert sorted(pieces.values()) == [1, 1, 1, 1, 3, 4]


@pytest.mark.parametrize("named", [1, 2, 1_200])
def test_a_frame_is_whole_whatever_its_length(named: int) -> None:
    ids, total = read(roll_of(named, 2_000).for_one(person(2, "x" * 100)))
    assert (len(ids), ids[0], total) == (named, "user_2", 2_000)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 600))
def test_the_receiver_is_always_among_as_many_as_ever(
    named: int, more: int, number: int
) -> None:
    total = named + more
    ids, _ = read(roll_of(named, total).for_one(person(number % total)))
    assert len(ids) == len(set(ids)) == named
    assert f"user_{number % total}" in ids
