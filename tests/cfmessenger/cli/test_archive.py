"""A backup on disk: complete or not there, and found out when it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cfmessenger.cli.archive import MANIFEST, VALKEY, Archive, Manifest, drafted
from cfmessenger.cli.runtime import Refused
from cfmessenger.storage.copying import Item, Kept

ITEMS = [
    Item("room:a", 3, 17, [Kept("cfm:{room:a}:log", 0, b"\x00dump")]),
    Item("", 0, 0, [Kept("cfm:x", 5, b"")]),
]


def manifest() -> Manifest:
    return Manifest(
        version="1",
        began="then",
        ended="now",
        valkey="9",
        objects=1,
        others=1,
        left_out={},
        database="left out",
    )


def made(place: Path) -> Path:
    with drafted(place) as draft:
        for item in ITEMS:
            assert draft.add(item) > 0
        (draft.path / "messenger.sqlite3").write_bytes(b"rows")
        draft.publish(place, manifest())
    return place


def test_what_was_written_is_read(tmp_path: Path) -> None:
    archive = Archive(made(tmp_path / "deep" / "one"))
    archive.verify()
    assert list(archive.items()) == ITEMS
    assert set(archive.manifest.files) == {VALKEY, "messenger.sqlite3"}
    modes = {each.stat().st_mode & 0o777 for each in archive.path.iterdir()}
    assert modes == {0o600} and archive.path.stat().st_mode & 0o777 == 0o700


def test_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        with drafted(tmp_path / "one") as draft:
            draft.add(ITEMS[0])
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    place = made(tmp_path / "one")
    with pytest.raises(Refused, match="is there already"):
        made(place)
    with pytest.raises(OSError):
        with drafted(tmp_path / "two") as draft:
            made(tmp_path / "two")  # another was faster
            draft.publish(tmp_path / "two", manifest())
    Archive(tmp_path / "two").verify()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one", "two"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", [VALKEY, "messenger.sqlite3"])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_every_damage_is_found(
    name: str, harm: Callable[[Path], object], tmp_path: Path
) -> None:
    place = made(tmp_path / "one")
    harm(place / name)
    with pytest.raises(Refused, match=name):
        Archive(place).verify()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "this is older"),
        (lambda text: text.replace(VALKEY, "../x"), "not complete"),
        (lambda text: text.replace(VALKEY, "x"), "is missing"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    change: Callable[[str], str], why: str, tmp_path: Path
) -> None:
    place = made(tmp_path / "one")
    file = place / MANIFEST
    file.write_text(change(file.read_text()))
    with pytest.raises(Refused, match=why):
        Archive(place).verify()


@pytest.mark.parametrize("name", ["nothing", "file", "folder"])
def test_something_else_is_no_backup(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match="is no backup"):
        Archive(tmp_path / name)
