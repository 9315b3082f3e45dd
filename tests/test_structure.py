"""No module imports in a circle; and how rooms and arrows are counted."""

from pathlib import Path

from tests.structure import arrows, circles, graph, rooms


def test_no_module_imports_in_a_circle() -> None:
    assert circles(graph()) == []


def made(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / "pack" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_circles_are_found_however_they_are_written(tmp_path: Path) -> None:
    made(
        tmp_path,
        one="from pack.inner.two import x",
        inner__two="def late():\n    from .. import three",
        three="from . import one",
        four="import pack.one\nif TYPE_CHECKING:\n    import pack.five",
        five="from pack.four import y",
    )
    found = graph(tmp_path, ("pack",))
    assert circles(found) == [["pack.inner.two", "pack.one", "pack.three"]]
    assert found["pack.four"] == {"pack.one"}, "a type checker's import is none"


def test_folders_are_rooms_and_lines_between_them_one_arrow(tmp_path: Path) -> None:
    made(
        tmp_path,
        one="from pack.inner import two\nfrom pack.inner.three import z",
        inner__two="import pack.inner.three",
        inner__three="import json",
    )
    found = graph(tmp_path, ("pack",))
    assert rooms(found, "pack") == {"one", "inner"}
    assert arrows(found, "pack") == {("one", "inner")}
    assert arrows(found, "pack.inner") == {("two", "three")}
