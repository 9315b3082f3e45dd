"""What shows nothing is blank, whatever it is made of; and the table is Unicode's."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.bots.wording import tidy
from cfmessenger.data.registry import Item, UserRow, user_rule
from cfmessenger.errors import ProtocolError
from cfmessenger.wire import ignorable
from cfmessenger.wire.decoding import check_display_name
from cfmessenger.wire.protocol import Chat, decode_room_frame
from cfmessenger.wire.visible import DRAWN_EMPTY, UNSEEN, shows
from tests import unicode

IGNORABLE = [c for first, last in ignorable.RANGES for c in range(first, last + 1)]
SPACES = [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)] + [
    *(0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
]
EMPTY = [chr(code) for code in (*IGNORABLE, *SPACES, *DRAWN_EMPTY)]
empty = st.text(st.sampled_from(EMPTY), min_size=1, max_size=40)
# What has always been drawn.
seen = st.characters(categories=("L", "N", "P", "S"), exclude_characters="".join(EMPTY))

REPORTED = "\u2800\u3164\uffa0\u115f\ufe0f\u180b\u17b4"


@pytest.mark.parametrize("text", [*REPORTED, *EMPTY[::97], REPORTED, "", " \u2800\n"])
def test_what_shows_nothing(text: str) -> None:
    assert not shows(text)


@pytest.mark.parametrize(
    "text",
    ["x", ".", "\u2801", "\u3163", "\ufffc", "👩‍💻", "❤\ufe0f", "\u17b3", "한", "é"],
)
def test_what_shows_something(text: str) -> None:
    assert shows(text)
    assert shows(f"\u2800\ufe0f{text}\u3164")


@given(empty)
def test_nothing_may_be_said_or_be_called_that_shows_nothing(text: str) -> None:
    data = msgspec.json.encode({"type": "chat", "content": text, "id": "m1"})
    with pytest.raises(ProtocolError) as caught:
        decode_room_frame(data)
    assert (caught.value.code, caught.value.id) == ("VALIDATION_ERROR", "m1")
    assert caught.value.field == "content"
    with pytest.raises(ProtocolError):
        check_display_name(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": text, "quantity": 1, "unitPrice": 1}, Item)
    row = {"id": "a", "email": "a@b", "avatarId": "x", "isAiBot": False}
    named = row | {"displayName": "A", "revision": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(named | {"personalMessage": text}, UserRow)
    profile = msgspec.convert(row | {"displayName": "A"}, Profile)
    for change in ({"display_name": text}, {"personal_message": text}):
        with pytest.raises(ValueError, match=r"expected a \w+ to see, of a"):
            Directory([msgspec.structs.replace(profile, **change)])
    assert tidy(text, profile) == ""


@given(empty, seen, empty)
def test_one_character_that_is_seen_is_enough(a: str, text: str, b: str) -> None:
    data = msgspec.json.encode({"type": "chat", "content": f"{text}{text}"})
    assert decode_room_frame(data) == Chat(text * 2)
    assert shows(f"{a}{text}{b}")


def test_no_message_of_ones_own_is_the_empty_one() -> None:
    row = msgspec.convert(
        {"id": "a", "email": "a@b", "displayName": "A", "avatarId": "x"}
        | {"isAiBot": False, "personalMessage": ""},
        UserRow,
    )
    assert user_rule(None, row).personal_message is None


# Unicode's data.


def test_the_module_is_what_its_generator_makes() -> None:
    version = re.search(r"Unicode ([\d.]+) ", ignorable.__doc__ or "")
    assert version is not None
    lines = [f"{a:04X}..{b:04X} ; {unicode.PROPERTY} # Cf" for a, b in ignorable.RANGES]
    data = "\n".join([f"# DerivedCoreProperties-{version[1]}.txt", *lines])
    assert ignorable.__file__ is not None
    assert Path(ignorable.__file__).read_text() == unicode.module(data)


PERL = """no warnings; for my $c (0..0x10ffff) {
  print "$c\\n" if chr($c) =~ /\\p{%s}/ && !($c >= 0xd800 && $c < 0xe000) }"""
NODE = """for (let c = 0; c < 0x110000; c++)
  if (/^\\p{%s}$/u.test(String.fromCodePoint(c))) console.log(c)"""


@pytest.mark.parametrize(
    ("tool", "flag", "script"), [("perl", "-e", PERL), ("node", "-e", NODE)]
)
def test_other_peoples_unicode_says_the_same(tool: str, flag: str, script: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")

    def having(name: str) -> list[int]:
        said = subprocess.run(
            [tool, flag, script % name], capture_output=True, check=True, text=True
        )
        return [int(line) for line in said.stdout.split()]

    assert having("Default_Ignorable_Code_Point") == IGNORABLE
    assert having("White_Space") == SPACES


def test_the_class_says_the_same_to_json_schema() -> None:
    """As ECMAScript reads it, with the flag `u`: `\\s` is its own there."""
    if shutil.which("node") is None:
        pytest.skip("no node here")
    script = """const seen = new RegExp(process.argv[1], "u");
      for (let c = 0; c < 0x110000; c++) if (!(c >= 0xd800 && c < 0xe000))
        if (!seen.test(String.fromCodePoint(c))) console.log(c)"""
    said = subprocess.run(
        ["node", "-e", script, f"[^{UNSEEN}]"],
        capture_output=True,
        check=True,
        text=True,
    )
    controls = {*range(0x1C, 0x20)}
    expected = {*IGNORABLE, *SPACES, *DRAWN_EMPTY} | controls
    assert {int(line) for line in said.stdout.split()} == expected
