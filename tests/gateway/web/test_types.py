"""The wire as the web client's types have it: what the server's own types say."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import gateway.web as package
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event

_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_TYPES = _COMMENT.sub("", (Path(package.__file__).parent / "wire.d.ts").read_text())
_BLOCK = re.compile(r"interface (\w+)(?: extends (\w+))? \{\n(.*?)\n  \}", re.S)
_INLINE = re.compile(r'\{ (type: "(\w+)";.*?) \}')
_FIELD = re.compile(r"(?:^|; ) *(\w+)(\??):", re.M)
_TAG = re.compile(r'^ *type: "(\w+)";$', re.M)
_PLAIN = {
    "Participant": protocol.Participant,
    "User": protocol.User,
    "RoomInfo": protocol.RoomInfo,
}
_TO_SERVER, _FROM_SERVER = _TYPES.split("// From the server.")
_SERVER = {
    str(each.__struct_config__.tag): each for each in get_args(protocol.ServerFrame)
}
_CLIENT = {
    str(each.__struct_config__.tag): each
    for each in get_args(protocol.RoomFrame | protocol.PresenceFrame)
}


def _fields(text: str) -> dict[str, bool]:
    """Names, and whether each may be absent."""
    return {name: mark == "?" for name, mark in _FIELD.findall(text)}


def _declared() -> dict[str, dict[str, bool]]:
    """Fields by frame (its tag) or, of what has no tag, by name."""
    found: dict[str, dict[str, bool]] = {}
    named: dict[str, dict[str, bool]] = {}
    for name, base, body in _BLOCK.findall(_TYPES):
        named[name] = named.get(base, {}) | _fields(body)
        tag = _TAG.search(body)
        found[tag[1] if tag else name] = named[name]
    for body, tag in _INLINE.findall(_FROM_SERVER):
        found[tag] = _fields(body)
    return found


def _any_event() -> dict[str, bool]:
    """The client's Message is any of them: what not all have may be absent."""
    each = [_told(kind) for kind in get_args(Event)]
    names = {name for fields in each for name in fields}
    return {name: any(fields.get(name, True) for fields in each) for name in names}


def _told(struct: type[msgspec.Struct]) -> dict[str, bool]:
    return {
        each.encode_name: not each.required for each in msgspec.structs.fields(struct)
    }


@pytest.mark.parametrize("name", [*_SERVER, *_PLAIN])
def test_what_the_server_tells_is_what_the_client_reads(name: str) -> None:
    told = _told((_SERVER | _PLAIN)[name])
    declared = _declared()[name]
    declared.pop("type" if name in _SERVER else "", None)
    assert declared.items() <= told.items()
    unread = {"content"} if name == "error" else {"persona", "botArchetype", "botStyle"}
    assert told.keys() - declared.keys() <= unread


def test_a_message_is_any_event() -> None:
    declared = _declared()["Message"]
    assert declared.pop("type") is False
    assert declared == _any_event()


def test_what_the_client_says_is_what_the_server_reads() -> None:
    said = [(tag, _fields(body)) for body, tag in _INLINE.findall(_TO_SERVER)]
    assert len(said) == 7
    for tag, fields in said:
        assert fields.keys() - {"type"} <= _told(_CLIENT[tag]).keys(), tag
