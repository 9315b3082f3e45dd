"""A backup as it lies on disk: a folder with a manifest, complete or not there at all.

It is made beside its place under another name, every file is on disk and has its
SHA-256 in the manifest, and then it gets its name. For us alone (0700): people's
messages are in it. Must not know what is copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cfmessenger.cli.runtime import Refused
from cfmessenger.storage.copying import Item

FORMAT = 1
MANIFEST, VALKEY = "manifest.json", "valkey.items"
_CHUNK = 1 << 20
_LENGTH = struct.Struct(">I")


class File(msgspec.Struct, frozen=True):
    """One file of it: its size, and its checksum in hex."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a backup. Times are UTC; `left_out`: beginnings of keys, and why."""

    format: int = FORMAT
    version: str
    began: str
    ended: str
    valkey: str
    objects: int
    others: int
    left_out: dict[str, str]
    database: str
    files: dict[str, File] = {}


class Draft:
    """A backup that is being made; `path` is its folder until it is published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._items = (path / VALKEY).open("xb")  # until published

    def add(self, item: Item) -> int:
        """Write one item; its size in bytes."""
        data = msgspec.msgpack.encode(item)
        self._items.write(_LENGTH.pack(len(data)))
        self._items.write(data)
        return len(data)

    def close(self) -> None:
        """Nothing more is added."""
        self._items.close()

    def publish(self, place: Path, manifest: Manifest) -> Manifest:
        """Complete it and give it its name; the manifest with its files."""
        self.close()
        files = {}
        for each in sorted(self.path.iterdir()):
            each.chmod(0o600)
            files[each.name] = _sync(each)
        whole = msgspec.structs.replace(manifest, files=files)
        text = msgspec.json.format(msgspec.json.encode(whole), indent=2)
        (self.path / MANIFEST).write_bytes(text + b"\n")
        (self.path / MANIFEST).chmod(0o600)
        _sync(self.path / MANIFEST)
        _sync_folder(self.path)
        self.path.rename(place)  # refused if there is something by now
        _sync_folder(place.parent)
        return whole


@contextmanager
def drafted(place: Path) -> Iterator[Draft]:
    """A backup that is to be at `place`, where there must be nothing yet. What is not
    published is gone at the end. Raises `Refused`, OSError."""
    if place.exists() or place.is_symlink():
        raise Refused(f"{place} is there already: name a folder that is not")
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that had this id
    folder.mkdir(mode=0o700)
    try:
        draft = Draft(folder)
        try:
            yield draft
        finally:
            draft.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Archive:
    """A complete backup, read. Raises `Refused` for what is none, or is damaged."""

    def __init__(self, place: Path) -> None:
        self.path = place
        try:
            text = (place / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(
                f"{place} is no backup: there is no {MANIFEST} in it"
            ) from None
        try:
            self.manifest = msgspec.json.decode(text, type=Manifest)
        except msgspec.DecodeError as error:
            raise Refused(f"{place / MANIFEST} cannot be read: {error}") from None
        if self.manifest.format > FORMAT:
            raise Refused(
                f"{place} was made by cfmessenger {self.manifest.version}, and this is "
                "older: use that one, or a newer one"
            )

    def verify(self) -> None:
        """Compare every file with its checksum."""
        for name, said in self.manifest.files.items():
            file = self.path / name
            if Path(name).name != name or not file.is_file():
                raise Refused(f"{file} is missing: the backup is not complete")
            if _digest(file) != said:
                raise Refused(f"{file} is damaged: its checksum is another")
        if VALKEY not in self.manifest.files:
            raise Refused(f"{self.path}: the backup is not complete")

    def items(self) -> Iterator[Item]:
        """What was copied of Valkey."""
        decode = msgspec.msgpack.Decoder(Item).decode
        with (self.path / VALKEY).open("rb") as file:
            while head := file.read(_LENGTH.size):
                (size,) = _LENGTH.unpack(head)
                yield decode(file.read(size))


def _digest(file: Path) -> File:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while some := opened.read(_CHUNK):
            digest.update(some)
            size += len(some)
    return File(size, digest.hexdigest())


def _sync(file: Path) -> File:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return _digest(file)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
