"""What the repository says of its documents, and they of it, is there.

Code and tests quote documents by section (design.md, section 3, step 5). A quote must
lead to a document of the repository, to a section that exists, and to the words that
stand in quotation marks behind it. And every file, function, key and setting that a
document names exists, so that whoever renames one finds the page that tells of it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from cfmessenger.environment import FILE, variable
from cfmessenger.errors import ERRORS, CloseCode, Where, codes
from cfmessenger.settings import ABOUT, Settings
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event
from gateway.api.operations import OPERATIONS

ROOT = Path(__file__).parents[1]
QUOTING = ("*.py", "*.md", "*.mjs", "*.js", "*.toml")
NEVER = {"vendor", "node_modules", "build", "dist"}
DOCUMENTS = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]

# `§3.5`, `§2-4`, `§3.8, 3.11`, `§2, §3 and §5`
_NUMBER = r"\d+(?:\.\d+)?(?:-§?\d+)?"
_QUOTE = re.compile(
    rf"\b([\w-]+\.md)(?:'s)? §({_NUMBER}(?:(?:, | and )(?:§|(?=\d+\.\d)){_NUMBER})*)"
    r"(?:, (Fencing|[A-Z]\d+|\d{4})\b|[^\"\n.;()§]{0,60}\"([^\"]+)\")?"
)
_LINE_ENDS = re.compile(r"\s*\n\s*(?:#|//|\*(?=\s)|>)?[ \t]*")
_MENTION = re.compile(r"(?<![\w/.-])([\w-]+\.md)\b")
_PATH = re.compile(
    r"(?<![\w/.@-])((?:cfmessenger|actors|gateway|tests|deploy|docs)/"
    r"[\w./*-]*(?:/|\.(?:py|md|js|mjs|json|css|html|png|conf|acl|toml)))(?!\w)"
)
_FUNCTION = re.compile(r"`((?:cfmessenger|actors|gateway)/[\w/]+\.py)`\s`([\w.]+)`")


class Quote(NamedTuple):
    """A document, the sections that are meant, and words that stand in each or one."""

    document: str
    sections: tuple[str, ...]
    words: tuple[str, ...]


def quotes(text: str) -> Iterator[Quote]:
    """Every quote in a text, whatever its lines begin with."""
    for found in _QUOTE.finditer(_LINE_ENDS.sub(" ", text)):
        document, numbers, name, said = found.groups()
        sections: list[str] = []
        for each in re.findall(_NUMBER, numbers):
            first, _, last = each.replace("§", "").partition("-")
            before, _, start = first.rpartition(".")
            sections += [
                f"{before}.{number}" if before else str(number)
                for number in range(int(start), int(last or start) + 1)
            ]
        words = re.split(r"…|\.\.\.", name or said or "")
        kept = tuple(each.strip() for each in words if each.strip())
        yield Quote(document, tuple(sections), kept)


@cache
def sections(path: Path) -> dict[str, str]:
    """A document's numbered sections, and the numbered steps within them."""
    found: dict[str, str] = {}
    section = step = ""
    for line in path.read_text().splitlines():
        heading = re.match(r"##+ (?:(\d+)\. )?", line)
        if heading:
            section, step = heading[1] or "", ""
        number = re.match(r"(\d+)\. ", line)
        if section and number:
            step = f"{section}.{number[1]}"
        elif step and not line.startswith(" "):
            step = ""
        for name in filter(None, (section, step)):
            found[name] = found.get(name, "") + line.strip() + "\n"
    return found


def place(document: str) -> Path | None:
    """Where a document is; None: it is not in the repository."""
    places = (ROOT / "docs" / document, ROOT / document, ROOT / "deploy" / document)
    return next((each for each in places if each.exists()), None)


def _plain(text: str) -> str:
    return re.sub(r"[\s`*\"]+", " ", text).strip()


def wrong_quotes(text: str) -> list[str]:
    """What the quotes in a text say that is not so."""
    wrong = []
    for quote in quotes(text):
        path = place(quote.document)
        if path is None:
            wrong.append(f"there is no {quote.document}")
            continue
        known = sections(path)
        wrong += [
            f"{quote.document} has no §{each}"
            for each in quote.sections
            if each not in known
        ]
        there = _plain(" ".join(known.get(each, "") for each in quote.sections))
        wrong += [
            f"{quote.document} §{', '.join(quote.sections)} does not say {words!r}"
            for words in quote.words
            if _plain(words) not in there
        ]
    return wrong


def missing_files(text: str) -> list[str]:
    """The files and folders that a text names and nobody finds."""
    return [
        name
        for name in dict.fromkeys(_PATH.findall(text))
        if not any(ROOT.glob(name.rstrip("/")))
    ]


def missing_functions(text: str) -> list[str]:
    """What is written as file and function, and is not there."""
    return [
        f"{name} {function}"
        for name, function in _FUNCTION.findall(text)
        if not (ROOT / name).exists() or function not in _functions(name)
    ]


@cache
def _functions(name: str) -> set[str]:
    found = set()
    for node in ast.parse((ROOT / name).read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def quoting_files() -> list[Path]:
    """Whatever may quote a document."""
    folders = [ROOT / each for each in "cfmessenger actors gateway tests docs".split()]
    found = [e for folder in folders for kind in QUOTING for e in folder.rglob(kind)]
    found += [each for kind in QUOTING for each in ROOT.glob(kind)]
    found += [ROOT / "Makefile", *(ROOT / "deploy").glob("*.md")]
    own = Path(__file__)
    return [
        each
        for each in sorted(set(found))
        if not NEVER.intersection(each.relative_to(ROOT).parts) and each != own
    ]


def test_every_quote_leads_to_a_section_that_says_so() -> None:
    wrong, count = [], 0
    for path in quoting_files():
        text = path.read_text()
        count += sum(1 for _ in quotes(text))
        wrong += [f"{path.relative_to(ROOT)}: {each}" for each in wrong_quotes(text)]
    assert count > 100
    assert not wrong


def test_every_document_that_is_named_is_in_the_repository() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in quoting_files()
        for name in _MENTION.findall(path.read_text())
        if place(name) is None
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("see design.md §3.5 and design.md §3, Fencing", []),
        ("see design.md §3.99", ["design.md has no §3.99"]),
        ("see design.md §3.8, 3.99", ["design.md has no §3.99"]),
        ("see design.md §3.8,\nand wire.md §77", ["wire.md has no §77"]),
        ("# of wire.md\n    # §6-8", ["wire.md has no §7", "wire.md has no §8"]),
        ("see invented.md §1", ["there is no invented.md"]),
        ('wire.md §5: "at the latest after 5 s"', []),
        (
            'wire.md §5: "at the latest … next week"',
            ["wire.md §5 does not say 'next week'"],
        ),
        ("design.md §4, Fencing", ["design.md §4 does not say 'Fencing'"]),
    ],
)
def test_a_quote_that_leads_nowhere_is_found(text: str, wrong: list[str]) -> None:
    assert sorted(wrong_quotes(text)) == sorted(wrong)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path: Path) -> None:
    text = path.read_text()
    assert not missing_files(text)
    assert not missing_functions(text)


def test_a_file_or_function_that_is_not_there_is_found() -> None:
    text = "`cfmessenger/rooom.py`, gateway/nothing/ and tests/*.nothing.py"
    assert missing_files(text) == [
        "cfmessenger/rooom.py",
        "gateway/nothing/",
        "tests/*.nothing.py",
    ]
    text = "`gateway/live/stub.py` `Stub.shout` and `gateway/live/stub.py`\n`Stub.say`"
    assert missing_functions(text) == ["gateway/live/stub.py Stub.shout"]


def test_the_way_of_a_message_is_told_step_by_step() -> None:
    told = sections(ROOT / "docs" / "design.md")["8"]
    assert len(_FUNCTION.findall(told)) > 20
    files = {name for name, _ in _FUNCTION.findall(told)}
    readme = (ROOT / "README.md").read_text()
    _, _, way = readme.partition("A message's way")
    named = re.findall(r"`((?:gateway|actors|cfmessenger)/[\w/]+)`", way)
    assert named
    assert {f"{each}.py" for each in named} <= files


def test_the_design_has_every_valkey_key() -> None:
    source = (ROOT / "cfmessenger" / "storage" / "keys.py").read_text()
    told = sections(ROOT / "docs" / "design.md")["5"]
    names = re.findall(r'(f?)"(cfm:[^"]+)"', source)
    assert len(names) > 20
    missing = []
    for formatted, name in names:
        parts = re.split(r"\{+\w[^}]*\}+", name) if formatted else [name]
        form = r"\{?<[^>]+>\}?".join(map(re.escape, parts))
        if not re.search(f"`{form}[`[]", told):
            missing.append(name)
    assert not missing


def test_a_setting_that_a_document_names_is_one() -> None:
    known = {variable(field) for field in Settings.__struct_fields__}
    known |= {variable(field) + FILE for field, told in ABOUT.items() if told.hides}
    for path in DOCUMENTS:
        named = set(re.findall(r"\bCFM_[A-Z_]+[A-Z]\b", path.read_text()))
        assert named <= known, path.name


def test_the_contract_has_every_endpoint_error_and_close_code() -> None:
    told = sections(ROOT / "docs" / "wire.md")
    paths = {one.path.replace(":room}", "}") for one in OPERATIONS}
    assert not [path for path in paths if path not in told["1"]]
    framed = codes(Where.FRAME)
    answered = set(ERRORS).difference(framed)
    answered = answered.union(*(one.codes for one in OPERATIONS))
    assert not [each for each in answered if not re.search(rf"\b{each}\b", told["1"])]
    assert not [each for each in framed if each not in told["3"]]
    closes = dict(re.findall(r"^\| (\d{4}) \|.*\|([^|]*)\|$", told["6"], re.M))
    assert set(closes) == {str(int(code)) for code in CloseCode}
    for code in CloseCode:
        again = closes[str(int(code))].strip() in ("reconnect", "")
        assert again == code.reconnect, code


def test_the_web_client_knows_the_codes_of_the_table() -> None:
    """JavaScript cannot import the table, so its copies are compared with it."""
    folder = ROOT / "gateway" / "web" / "static" / "js"
    scripts = {each.name: each.read_text() for each in folder.rglob("*.js")}
    everything = "\n".join(scripts.values())
    asked = set(re.findall(r'\bcode === "([A-Z_]+)"', everything))
    [unreadable] = re.findall(r"const UNREADABLE = \[(.*)\]", scripts["room.js"])
    asked |= set(re.findall(r"[A-Z_]+", unreadable))
    asked -= {"OFFLINE"}  # the client's own: nobody answered
    assert {"AUTH_EXPIRED", "RATE_LIMITED", "TOO_LARGE"} <= asked <= set(ERRORS)
    named = dict(
        re.findall(r"^const ([A-Z_]+) = (4\d{3});", scripts["protocol.js"], re.M)
    )
    assert named
    assert all(CloseCode[name] == int(code) for name, code in named.items())
    told = set(map(int, re.findall(r"^ +(4\d{3}): \"", everything, re.M)))
    assert told and told <= set(CloseCode)
    [never] = re.findall(r"\[([\d, ]+)\]\.includes\(code\)", scripts["socket.js"])
    blamed = {code for code in CloseCode if code < 4000 and not code.reconnect}
    assert blamed <= set(map(int, never.split(",")))


def test_the_contract_has_every_frame_and_field() -> None:
    told = sections(ROOT / "docs" / "wire.md")
    places = (
        (get_args(protocol.RoomFrame), "2"),
        (get_args(protocol.PresenceFrame), "24"),
        (get_args(protocol.ServerFrame | Event), "34"),
        ((protocol.Participant,), "3"),
        ((protocol.User, protocol.RoomInfo), "1"),
    )
    missing = []
    for structs, where in places:
        text = " ".join(told[each] for each in where)
        for struct in structs:
            tag = struct.__struct_config__.tag
            names = [*struct.__struct_encode_fields__, *([tag] if tag else [])]
            missing += [
                f"{struct.__name__}.{name}"
                for name in names
                if not re.search(rf"\b{name}\b", text)
            ]
    assert not missing
