"""The link's framing: any split, both directions, and nothing that is not a message."""

import string

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfmessenger.chat.effects import Attachment, News, Wants
from cfmessenger.link import messages as link
from cfmessenger.link.framing import TooLong
from cfmessenger.wire.protocol import Participant
from tests.effort import tries

TEXT = st.text(string.ascii_letters + "é🎈", max_size=6)
NUMBER = st.integers(0, 2**40)
BLOB = st.binary(max_size=300)
ATTACHMENT = st.builds(
    Attachment,
    TEXT,
    TEXT,
    TEXT,
    st.sampled_from(["online", "busy", "away", "offline"]),
    st.booleans(),
    st.booleans(),
    st.none() | TEXT,
    st.none() | TEXT,
    NUMBER,
    NUMBER,
)
IDS = st.lists(TEXT, max_size=3)
WANTS = st.builds(Wants, NUMBER, st.booleans(), IDS, IDS)
PEOPLE = st.lists(st.builds(Participant, TEXT, TEXT, st.just("busy")), max_size=3)
NEWS = st.builds(News, st.booleans(), NUMBER, NUMBER, st.booleans(), PEOPLE, IDS, IDS)
CONNS = st.lists(TEXT, max_size=3).map(tuple)
INPUT = st.one_of(
    st.builds(link.Said, NUMBER, TEXT, BLOB),
    st.builds(link.Opened, NUMBER, ATTACHMENT, st.none() | NUMBER, st.booleans()),
    st.builds(link.Closed, NUMBER, TEXT),
    st.builds(link.Notified, NUMBER, BLOB),
    st.builds(link.Changed, NUMBER, ATTACHMENT),
)
ITEM = st.one_of(
    st.builds(link.Fanout, BLOB, NUMBER, st.none() | TEXT),
    st.builds(link.ToSockets, CONNS, BLOB, st.booleans()),
    st.builds(link.Roll, BLOB, NUMBER, NUMBER, CONNS, st.none() | CONNS, CONNS),
    st.builds(link.Subscribed, CONNS, NUMBER),
    st.builds(link.Closing, TEXT, NUMBER, TEXT),
    st.builds(link.Kept, ATTACHMENT),
    st.builds(link.CatchUp, TEXT, NUMBER, NUMBER),
    st.builds(link.Recall, TEXT, NUMBER),
    st.builds(link.Forward, TEXT, BLOB),
    st.builds(link.People, NEWS),
    st.builds(link.Met, CONNS, st.tuples(TEXT, TEXT)),
)
TO_ACTOR: st.SearchStrategy[link.ToActor] = st.one_of(
    st.builds(link.Hello, NUMBER, TEXT, TEXT),
    st.builds(
        link.Attach,
        TEXT,
        NUMBER,
        st.integers(-1, 99),
        NUMBER,
        NUMBER,
        st.lists(ATTACHMENT, max_size=3),
        NUMBER,
    ),
    st.builds(
        link.Inputs, TEXT, st.lists(INPUT, max_size=4), NUMBER, st.none() | WANTS
    ),
    st.builds(link.Ping, NUMBER),
)
TO_GATEWAY: st.SearchStrategy[link.ToGateway] = st.one_of(
    st.builds(link.Welcome, NUMBER, NUMBER),
    st.builds(link.Output, TEXT, NUMBER, NUMBER, st.lists(ITEM, max_size=4), NUMBER),
    st.builds(link.Pong, NUMBER),
    st.builds(link.Goodbye, TEXT, NUMBER, NUMBER, TEXT, NUMBER, st.booleans()),
)


def read_split(
    reader: link.MessageReader, stream: bytes, cuts: list[int]
) -> list[object]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [
        message
        for start, end in zip(places, places[1:], strict=False)
        for message in reader.feed(stream[start:end])
    ]


@given(st.lists(TO_ACTOR, max_size=5), st.lists(st.integers(0, 4000), max_size=20))
def test_what_gateways_send_survives_any_split(
    messages: list[link.ToActor], cuts: list[int]
) -> None:
    stream = b"".join(map(link.frame, messages))
    assert read_split(link.actor_reader(), stream, cuts) == messages


@given(st.lists(TO_GATEWAY, max_size=5), st.lists(st.integers(0, 4000), max_size=20))
def test_what_actors_send_survives_any_split(
    messages: list[link.ToGateway], cuts: list[int]
) -> None:
    stream = b"".join(map(link.frame, messages))
    assert read_split(link.gateway_reader(), stream, cuts) == messages


def test_one_byte_at_a_time() -> None:
    messages = [link.Ping(1), link.Hello(1, "k" * 200, "g"), link.Ping(2)]
    stream = b"".join(map(link.frame, messages))
    reader = link.actor_reader()
    found = [m for n in range(len(stream)) for m in reader.feed(stream[n : n + 1])]
    assert found == messages


def test_the_wire_is_what_version_6_says() -> None:
    # A change here needs a new VERSION: gateways and actors are restarted one by one.
    assert link.VERSION == 6
    assert link.frame(link.Ping(7)) == b"\0\0\0\3\x92\x03\x07"
    said = link.Inputs("o", [link.Said(5, "c", b"x")])
    assert link.frame(said) == (
        b"\0\0\0\x10\x95\x02\xa1o\x91\x95\x00\x05\xa1c\xc4\x01x\x00\x00\xc0"
    )
    # What an input caused and its being covered are one frame: together or not at all.
    output = link.Output("o", 2, 5, [link.Fanout(b"f", 9, None)])
    assert link.frame(output) == (
        b"\0\0\0\x0f\x96\x01\xa1o\x02\x05\x91\x94\x00\xc4\x01f\x09\xc0\x00"
    )

    roll = link.Output("o", 2, 5, [link.Roll(b"[1]", 1, 2, ("u",), None, ("c",))])
    assert link.frame(roll) == (
        b"\0\0\0\x18\x96\x01\xa1o\x02\x05\x91"
        b"\x97\x0a\xc4\x03[1]\x01\x02\x91\xa1u\xc0\x91\xa1c\x00"
    )


def test_a_frame_that_is_too_long_is_refused_by_its_header_alone() -> None:
    reader = link.actor_reader()
    with pytest.raises(link.BrokenLink):
        list(reader.feed((link.MAX_FRAME + 1).to_bytes(4, "big")))


def test_a_frame_that_is_too_long_is_told_to_who_sends_it() -> None:
    # The other end would drop the link, and every object's with it.
    blob = b"x" * link.MAX_FRAME
    with pytest.raises(TooLong):
        link.frame(link.Output("o", 1, 1, [link.Fanout(blob, 0, None)]))


def test_a_large_frame_passes() -> None:
    output = link.Output("o", 1, 1, [link.Fanout(b"x" * 3_000_000, 0, None)])
    raw = link.frame(output)
    reader = link.gateway_reader()
    assert list(reader.feed(raw[:-1])) == []
    assert list(reader.feed(raw[-1:])) == [output]


@pytest.mark.parametrize(
    "value",
    [
        link.Output("o", 1, 1, []),  # of the other direction
        [9, "unknown tag"],
        [2, "o"],  # too short
        {"object": "o"},
        None,
        [2, "o", [[0, "not a number", "c", b""]]],
        [2, "o", [[7, 1, "c"]]],  # an unknown input
    ],
)
def test_what_is_no_message_breaks_the_link(value: object) -> None:
    body = msgspec.msgpack.encode(value)
    raw = len(body).to_bytes(4, "big") + body
    with pytest.raises(link.BrokenLink):
        list(link.actor_reader().feed(raw))


@settings(max_examples=tries(300))
@given(st.binary(max_size=60))
@example(b"\x94\x00\x01\xa1\xff\xa1g")  # a Hello whose key is not UTF-8
@example(b"\x93\x03\x07" + b"\x91" * 100_000 + b"\x01")  # deeper than the stack
@example(b"")
def test_garbage_is_a_broken_link_or_a_message(body: bytes) -> None:
    raw = len(body).to_bytes(4, "big") + body
    for reader in (link.actor_reader(), link.gateway_reader()):
        try:
            list(reader.feed(raw))
        except link.BrokenLink:
            pass


@settings(max_examples=tries(200))
@given(st.binary(max_size=200))
def test_a_stream_of_garbage_is_a_broken_link_or_waits(stream: bytes) -> None:
    try:
        list(link.actor_reader().feed(stream))
    except link.BrokenLink:
        pass


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_text_frame_is_rfc_6455s(size: int, header: bytes) -> None:
    payload = b"x" * size
    assert link.text_frame(payload) == header + payload
