"""How text of the environment becomes the values of a table of settings.

A table is a struct whose fields are each annotated with their type and an `About`: that
is all there is to write of one. A field is the variable's name in lower case without
`CFM_`, with no exceptions. An unknown name or a bad value is a `SettingsError` of one
line which names the variable and never repeats a value, because values hold passwords.
An empty value counts as not set, as compose files write it. What is secret may stand
in a file instead, which `<variable>_FILE` names. What settings there are is
`settings.py`'s business.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

PREFIX = "CFM_"
FILE = "_FILE"
"""Behind the name of a secret's variable: the file that has it, without line ends."""
MOST_SECRET = 64 * 1024
"""Bytes of such a file."""

Table = TypeVar("Table", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A variable that cannot be used, as one line; the CLI prints it and exits 3."""


class About(NamedTuple):
    """What is to know of a setting beside its name, type and value.

    Without `help` it is for tests, and no flag. `default` is for people, where the
    value cannot say it. `read` is for text that needs more than its type. `hides`:
    the value as a whole, which has no flag then, or the password that it may hold; no
    repr shows either. `section` stands at the first setting of one.
    """

    help: str = ""
    default: str = ""
    read: Callable[[str], object] | None = None
    hides: Literal["", "whole", "password"] = ""
    section: str = ""


@cache
def about(table: type[msgspec.Struct]) -> dict[str, About]:
    """What is to know of each setting, in the table's order."""
    return {field: told for field, _, told in _fields(table)}


@cache
def _readers(table: type[msgspec.Struct]) -> dict[str, Callable[[str], object]]:
    return {field: told.read or _reader(kind) for field, kind, told in _fields(table)}


def _fields(table: type[msgspec.Struct]) -> list[tuple[str, Any, About]]:
    hints = get_type_hints(table, include_extras=True).items()
    return [(field, get_args(hint)[0], get_args(hint)[-1]) for field, hint in hints]


def variable(field: str) -> str:
    """The variable of a setting: `CFM_PORT` of `port`."""
    return PREFIX + field.upper()


def read(env: Mapping[str, str], table: type[msgspec.Struct]) -> dict[str, Any]:
    """The values of the `CFM_*` names in `env`, by field; others are ignored."""
    values: dict[str, Any] = {}
    readers = _readers(table)
    secrets = [each for each, told in about(table).items() if told.hides]
    env = with_secrets(env, map(variable, secrets))
    for name, text in sorted(env.items()):
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        if name != variable(field) or field not in readers:
            raise SettingsError(_unknown(name, readers))
        if text := text.strip():
            try:
                values[field] = readers[field](text)
            except ValueError as error:
                raise SettingsError(f"{name}: {error}") from None
    return values


def with_secrets(env: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The environment with what stands in files in the variables of these names, and
    without the names of those files. Raises `SettingsError`: such a file cannot be
    read, is empty, or the variable is set as well."""
    found = dict(env)
    for name in names:
        file = found.pop(name + FILE, "").strip()
        if not file:
            continue
        if found.get(name, "").strip():
            raise SettingsError(f"{name}{FILE}: {name} is set too; leave one out")
        found[name] = _secret_in(name + FILE, path(file))
    return found


def _secret_in(name: str, file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_SECRET + 1).decode()
    except OSError as error:
        raise SettingsError(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: expected a file of text") from None
    if len(text) > MOST_SECRET:
        raise SettingsError(f"{name}: expected a file of {MOST_SECRET} bytes at most")
    if not text.strip():
        raise SettingsError(f"{name}: the file is empty")
    return text.strip()


def _unknown(name: str, fields: Iterable[str]) -> str:
    import difflib  # only for this message

    near = difflib.get_close_matches(name.upper(), map(variable, fields), 1, 0.8)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"{ascii(name)[1:-1]}: expected one of our settings{hint}"


def made(values: Mapping[str, Any], table: type[Table]) -> Table:
    """A table of these values, which its types must allow."""
    try:
        return msgspec.convert(values, table, strict=False, dec_hook=_as_is)
    except msgspec.ValidationError as error:
        raise SettingsError(_one_line(error)) from None


def text_of(value: object) -> str:
    """As it is read again."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def plain(text: str) -> str:
    """Text on one line, without control characters; raises ValueError."""
    if not text.isprintable():
        raise ValueError("expected text without control characters")
    return text


def _one_line(error: msgspec.ValidationError) -> str:
    # Not by `wire/complaint.py`, which reads the same messages: the ground is below it.
    expected, _, where = str(error).partition(" - at `$.")
    field = re.match(r"\w+", where)
    assert field is not None, error
    expected = expected.removesuffix(", got `str`")
    return f"{variable(field[0])}: {expected[0].lower()}{expected[1:]}"


def _as_is(kind: type, value: object) -> object:
    assert isinstance(value, kind)
    return value


def _choice(kind: Any) -> Callable[[str], str]:
    choices = get_args(kind)

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected {' or '.join(choices)}")
        return text.lower()

    return read


def _flag(text: str) -> bool:
    try:
        return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
    except KeyError:
        raise ValueError("expected 1 or 0") from None


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number of seconds")
    return number


def path(text: str) -> Path:
    """Absolute, from the current directory; raises ValueError."""
    try:
        return Path(plain(text)).expanduser().absolute()
    except RuntimeError:
        raise ValueError("expected a path whose ~ is somebody's home") from None


_OF_A_TYPE: dict[object, Callable[[str], object]] = {
    bool: _flag,
    float: _number,
    Path: path,
}


def _reader(kind: Any) -> Callable[[str], object]:
    """Of a field's type, which may have a `parse` of its own; what is left as text
    msgspec converts."""
    for each in (kind, *get_args(kind)):
        if get_origin(each) is Literal:
            return _choice(each)
        if read := _OF_A_TYPE.get(each, getattr(each, "parse", None)):
            return read
    return plain
