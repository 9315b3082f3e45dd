"""Whatever a client sends, the answer is a frame or a ProtocolError without an echo."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfmessenger.errors import ProtocolError
from cfmessenger.ids import is_message_id
from cfmessenger.wire import protocol
from cfmessenger.wire.decoding import (
    _RULES,
    MAX_FRAME_BYTES,
    check_display_name,
    frame_id,
)
from cfmessenger.wire.protocol import (
    Chat,
    Ping,
    decode_presence_frame,
    decode_room_frame,
)

SMILE = "\U0001f600"


def refusal(data: bytes | dict[str, Any]) -> ProtocolError:
    raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
    with pytest.raises(ProtocolError) as caught:
        decode_room_frame(raw)
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"type":"chat","content":"x"',
        b'{"type":"chat","content":"x"} x',
        b"{'type':'chat'}",
        b'{"type":"ping",}',
        b'{"type":"ping"/**/}',
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"ping","t":NaN}',
        b'{"type":"ping","t":01}',
        b'{"type":"ping","t":+1}',
        b'{"type":"chat","content":"a\nb"}',
        # Wrong before it is malformed: malformed wins.
        b'{"type":"chat","content":5,,}',
        # Lone surrogates as bytes; bad UTF-8.
        b'{"type":"chat","content":"\xed\xa0\x80"}',
        b'{"type":"chat","content":"\xff"}',
        b'{"type":"\xff"}',
        b'{"type":"chat","content":5,"x":"\\ud800"}',
        b'{"type":"ping","x":"type","y":"\xff","z":"type"}',
        # Beyond the interpreter's recursion limit: RecursionError, not DecodeError.
        b'{"type":"ping","x":' + b"[" * 16_000,
    ],
)
def test_what_is_not_json_is_invalid_json(data: bytes) -> None:
    error = refusal(data)
    assert error.code == "INVALID_JSON"
    assert error.message == "The frame is not valid JSON."
    assert error.id is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"type":"chat","id":"m1","content":"\\ud800"}', "content"),
        (b'{"type":"chat","id":"m1","content":"\\udc00x"}', "content"),
        (b'{"type":"chat","content":"a\\uDBFF\\u0041","id":"m1"}', "content"),
        (b'{"type":"ch\\u0061t","content":"\\ude00\\ud83d","id":"m1"}', "content"),
        (b'{"type":"wink","winkId":"\\ud800","id":"m1"}', "winkId"),
        (b'{"type":"ack","ackId":"\\ud800","status":"read","id":"m1"}', "ackId"),
        (b'{"type":"ack","ackId":"a","status":"\\ud800","id":"m1"}', "status"),
        (
            b'{"type":"presence","status":"away","displayName":"\\ud800","id":"m1"}',
            "displayName",
        ),
        (b'{"type":"\\ud800","id":"m1"}', "type"),
    ],
)
def test_half_a_surrogate_pair_is_no_text(data: bytes, field: str) -> None:
    error = refusal(data)
    assert (error.code, error.field) == ("VALIDATION_ERROR", field)
    assert error.id == "m1"


def test_half_a_surrogate_pair_is_no_id() -> None:
    error = refusal(b'{"type":"chat","content":"x","id":"\\ud800"}')
    assert (error.code, error.field, error.id) == ("VALIDATION_ERROR", "id", None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"chat","id":"m1","content":"cut of',
        b'{"type":"chat","id":"m1","content":"cut off\\',
        b'{"type":"chat","content":"x","id":"m1"',
        b'{"type":"chat","content":"x","id":"m1"} x',
        b'{"type":"chat","content":"x" "id" : "m1"}}',
        b'{"type":"chat","id":"m1","content":"a\nb"}',
        b'{"type":"chat","id":"m1","content":"a\\qb"}',
        b'{"type":"chat","id":"m1","content":"x","more":"\\ud800"}',
        b'{"type":"chat","id":"m1","content":5,"more":"\\ud800"}',
        b'{"type":"nonsense","id":"m1","content":"\\ud800"}',
        b'{"id":"m1","type":"chat","content":"\xff"}',
        b'{"id":"m0","id":"m1","type":}',
        b'{"content":"\\"id\\":\\"m2\\"","id":"m1","type":}',
        b'{"x":{"id":"m2"},"id":"m1","y":{"id":"m3"},"z":["id","m4"],}',
        b'{"type":"chat","id":"m1","x":' + b"[" * 16_000,
    ],
)
def test_what_cannot_be_read_still_names_its_id(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, error.id) == ("INVALID_JSON", "m1")


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":5 "m2"}',
        b'{"id":"a b",}',
        b'{"id":"m1',
        b'{"id","m2"}}',
        b'{"x":{"id":"m2"},}',
        b'{"x":"\\"id\\":\\"m2\\"",}',
        b'{"x":' + b"[]," * 10_000 + b'"id":"m1"}',
    ],
)
def test_what_is_no_id_is_not_taken_for_one(data: bytes) -> None:
    assert frame_id(data) is None


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_an_id_in_whatever_bytes_is_valid(before: bytes, after: bytes) -> None:
    found = frame_id(b'{"id":"m1",' + before + b'"id":' + after)
    assert found is None or is_message_id(found)


@given(
    st.sampled_from("""chat nudge wink typing presence ack ping nonsense""".split()),
    st.dictionaries(st.sampled_from(["content", "winkId", "x", "t"]), st.text()),
    st.integers(0, 200),
)
def test_a_frame_that_breaks_off_after_its_id_is_refused_by_it(
    kind: str, rest: dict[str, str], cut: int
) -> None:
    data = json.dumps({"type": kind, "id": "m1", **rest}).encode()
    whole = data.index(b'"m1"') + 4
    assert refusal(data[: min(whole + cut, len(data) - 1)]).id == "m1"


@pytest.mark.parametrize("data", [b"[]", b"null", b'"x"', b"5", b"true"])
def test_a_frame_is_an_object(data: bytes) -> None:
    error = refusal(data)
    assert error.code == "VALIDATION_ERROR"
    assert error.message == "A frame must be a JSON object."


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{}", "type"),
        (b'{"type":null}', "type"),
        (b'{"type":5}', "type"),
        (b'{"type":["chat"]}', "type"),
        (b'{"type":"chat"}', "content"),
        (b'{"type":"chat","content":null}', "content"),
        (b'{"type":"chat","content":["a"]}', "content"),
        (b'{"type":"chat","content":""}', "content"),
        (b'{"type":"chat","content":" \\t\\n "}', "content"),
        (b'{"type":"chat","content":"\xe2\x80\x8b\xef\xbb\xbf"}', "content"),
        (b'{"type":"chat","content":"a\\u0000"}', "content"),
        (b'{"type":"chat","content":"a\\u001bb"}', "content"),
        (b'{"type":"chat","content":"a\\rb"}', "content"),
        (b'{"type":"chat","content":"a\\u0085b"}', "content"),
        (b'{"type":"chat","content":"a\\u007fb"}', "content"),
        (b'{"type":"chat","content":"x","id":null}', "id"),
        (b'{"type":"chat","content":"x","id":5}', "id"),
        (b'{"type":"chat","content":"x","id":""}', "id"),
        (b'{"type":"chat","content":"x","id":"a b"}', "id"),
        (b'{"type":"chat","content":"x","id":"a\\n"}', "id"),
        (b'{"type":"chat","content":"x","id":"' + b"i" * 65 + b'"}', "id"),
        (b'{"type":"nudge","id":true}', "id"),
        (b'{"type":"nudge","id":' + b"9" * 5000 + b"}", "id"),
        (b'{"type":"wink"}', "winkId"),
        (b'{"type":"wink","winkId":""}', "winkId"),
        (b'{"type":"wink","winkId":"../x"}', "winkId"),
        (b'{"type":"wink","winkId":"Heart"}', "winkId"),
        (b'{"type":"wink","winkId":"' + b"w" * 65 + b'"}', "winkId"),
        (b'{"type":"typing"}', "isTyping"),
        (b'{"type":"typing","isTyping":1}', "isTyping"),
        (b'{"type":"typing","isTyping":"true"}', "isTyping"),
        (b'{"type":"presence"}', "status"),
        (b'{"type":"presence","status":"invisible"}', "status"),
        (b'{"type":"presence","status":"at `$.winkId`"}', "status"),
        (b'{"type":"presence","status":"online","displayName":null}', "displayName"),
        (b'{"type":"presence","status":"online","displayName":""}', "displayName"),
        (b'{"type":"ack"}', "ackId"),
        (b'{"type":"ack","ackId":"a b","status":"read"}', "ackId"),
        (b'{"type":"ack","ackId":"a","status":"sent"}', "status"),
        (b'{"type":"ping","t":"1"}', "t"),
        (b'{"type":"ping","t":1.0}', "t"),
        (b'{"type":"ping","t":1e2}', "t"),
        (b'{"type":"ping","t":true}', "t"),
        (b'{"type":"ping","t":9007199254740993}', "t"),
        (b'{"type":"ping","t":' + b"9" * 400 + b"}", "t"),
        (b'{"type":"ping","t":' + b"9" * 5000 + b"}", "t"),
    ],
)
def test_a_bad_field_is_named_with_its_rule(data: bytes, field: str) -> None:
    error = refusal(data)
    assert (error.code, error.field) == ("VALIDATION_ERROR", field)
    assert error.message.startswith(f"{field}: must be ")


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"chat","type":"chat","content":"x","id":"m1"}',
        b'{"type":"chat","content":"x","ty\\u0070e":"chat","id":"m1"}',
        b'{"type":"chat","type":"ping","content":"x","id":"m1"}',
        b'{"id":"m1","type":"chat","content":"\\u0041","x":{"a":1},"type":"chat"}',
    ],
)
def test_type_may_come_only_once(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, error.field) == ("VALIDATION_ERROR", "type")
    assert error.id == "m1"


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        # The last of a repeated key wins; `type` elsewhere is none of ours.
        (b'{"type":"chat","content":"a","content":"b"}', Chat("b")),
        (b'{"type":"chat","content":"type","x":{"type":1},"y":"type"}', Chat("type")),
        (b'{"type":"chat","content":"\\"type\\""}', Chat('"type"')),
        (b'{"ty\\u0070e":"chat","content":"\\u0041"}', Chat("A")),
        (b'{"content":"late tag","type":"chat"}', Chat("late tag")),
        (b'{"type":"chat","content":"a\\tb\\nc"}', Chat("a\tb\nc")),
        (b'{"type":"ping","x":' + b"[" * 100 + b"]" * 100 + b"}", Ping()),
        (b'{"type":"ping","x":' + b"9" * 5000 + b',"y":"\\u0041"}', Ping()),
        (b'{"type":"ping","t":-1,"__proto__":{},"x":1e999}', Ping(-1)),
        (b' {"type" : "ping"} ', Ping()),
    ],
)
def test_lenient_where_the_wire_says_so(data: bytes, frame: object) -> None:
    assert decode_room_frame(data) == frame


@pytest.mark.parametrize("type_", ["system", "history", "pong", "error", "", "CHAT"])
def test_unknown_types(type_: str) -> None:
    error = refusal({"type": type_, "id": "m1", "content": 5})
    assert (error.code, error.id) == ("UNKNOWN_TYPE", "m1")
    assert not type_ or type_ not in error.message


def test_each_socket_has_its_own_types() -> None:
    update = b'{"type":"presence_update","status":"busy"}'
    assert decode_presence_frame(update) == protocol.UpdatePresence("busy")
    assert refusal(update).code == "UNKNOWN_TYPE"
    with pytest.raises(ProtocolError) as caught:
        decode_presence_frame(b'{"type":"chat","content":"x"}')
    assert caught.value.code == "UNKNOWN_TYPE"


@pytest.mark.parametrize(
    ("content", "good"),
    [
        ("x" * 2048, True),
        ("x" * 2049, False),
        ("é" * 2048, True),
        (SMILE * 1024, True),
        (SMILE * 1025, False),
        ("x" + SMILE * 1023 + "x", True),
        ("x" + SMILE * 1023 + "xx", False),
    ],
)
def test_content_is_measured_as_javascript_does(content: str, good: bool) -> None:
    frame = {"type": "chat", "content": content, "id": "m1"}
    if good:
        assert decode_room_frame(msgspec.json.encode(frame)) == Chat(content, "m1")
    else:
        error = refusal(frame)
        assert (error.code, error.field, error.id) == (
            "VALIDATION_ERROR",
            "content",
            "m1",
        )


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("A", True),
        ("x" * 50, True),
        ("x" * 51, False),
        (SMILE * 25, True),
        (SMILE * 26, False),
        ("Zoë \u4e2d", True),
        ("", False),
        ("  ", False),
        ("\u200b", False),
        ("a\tb", False),
        ("a\nb", False),
        ("a\x7f", False),
        ("a\u0085", False),
        ("a\u202eb", False),
        ("a\u2066b", False),
    ],
)
def test_display_names(name: str, good: bool) -> None:
    for type_, decode in (
        ("presence", decode_room_frame),
        ("presence_update", decode_presence_frame),
    ):
        frame = {"type": type_, "status": "away", "displayName": name}
        data = msgspec.json.encode(frame)
        if good:
            assert decode(data).display_name == name
            check_display_name(name)
        else:
            with pytest.raises(ProtocolError) as caught:
                decode(data)
            assert caught.value.field == "displayName"
            with pytest.raises(ProtocolError):
                check_display_name(name)


def test_a_frame_over_16_kib_is_too_large() -> None:
    pad = MAX_FRAME_BYTES - len(b'{"type":"ping","x":""}')
    data = b'{"type":"ping","x":"%s"}' % (b"x" * pad)
    assert decode_room_frame(data) == Ping()
    error = refusal(b'{"type":"ping","id":"m1","x":"%s"}' % (b"x" * pad))
    assert (error.code, error.id) == ("TOO_LARGE", "m1")


@pytest.mark.parametrize(
    ("data", "id_"),
    [
        (b'{"id":"m1"}', "m1"),
        (b'{"id":"a b"}', None),
        (b'{"id":7}', None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
        (b'{"id":"\xff"}', None),
        (b'{"id":' + b"[" * 200_000, None),
    ],
)
def test_a_valid_id_is_found_in_a_bad_frame(data: bytes, id_: str | None) -> None:
    assert frame_id(data) == id_


def test_every_field_of_every_frame_has_a_rule() -> None:
    for frames in (protocol.RoomFrame, protocol.PresenceFrame):
        for frame in get_args(frames):
            for field in msgspec.structs.fields(frame):
                assert field.encode_name in _RULES


SECRET = "s3cr3t"
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.just(SECRET) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
fields = st.sampled_from([name for name in _RULES if "." not in name])
types = st.sampled_from(["chat", "nudge", "wink", "typing", "presence", "ack", "ping"])


@given(types | values, st.dictionaries(fields | st.text(), values, max_size=5))
def test_objects_are_taken_or_refused_without_echo(
    type_: object, rest: dict[str, object]
) -> None:
    data = json.dumps({"type": type_, **rest}).encode()
    try:
        decode_room_frame(data)
    except ProtocolError as error:
        frame = protocol.error_frame(error)
        assert SECRET not in error.message
        assert msgspec.json.decode(frame)["type"] == "error"


@given(st.binary(max_size=64))
@example(b'{"type":"chat","content":"\xf0"}')
def test_any_bytes_are_answered(data: bytes) -> None:
    for decode in (decode_room_frame, decode_presence_frame):
        try:
            decode(data)
        except ProtocolError as error:
            assert error.code in ("INVALID_JSON", "VALIDATION_ERROR", "UNKNOWN_TYPE")
