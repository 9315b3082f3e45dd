"""`python -m tests.structure`: rooms and arrows of each folder, read off the imports.

A room is a module or a folder directly inside a folder; an arrow leads from one that
imports to one that is imported, however many lines do. What only a type checker
imports does not count. Circles are printed: there must be none.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("cfmessenger", "actors", "gateway")

Graph = dict[str, set[str]]
"""From a module's dotted name to those that it imports."""


def graph(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> Graph:
    """Every module of these packages, and what it imports of them when it runs."""
    files = {
        _dotted(path.relative_to(root)): path
        for package in packages
        for path in (root / package).rglob("*.py")
    }
    return {
        name: {
            found
            for each in _imports(ast.parse(path.read_bytes()), name, path)
            if (found := _known(each, files)) not in (None, name)
        }
        for name, path in files.items()
    }


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _known(name: str, files: dict[str, Path]) -> str | None:
    """The module that this is, or is a name of."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def _imports(tree: ast.AST, name: str, path: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        else:
            yield from _imports(node, name, path)


def circles(of: Graph) -> list[list[str]]:
    """Modules that import each other, each circle once."""
    reach = {name: _reachable(of, name) for name in of}
    found: list[list[str]] = []
    for name in sorted(of):
        ring = sorted({name} | {n for n in reach[name] if name in reach[n]})
        if len(ring) > 1 and ring not in found:
            found.append(ring)
    return found


def _reachable(of: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    due = list(of[start])
    while due:
        name = due.pop()
        if name not in seen:
            seen.add(name)
            due += of[name]
    return seen


def arrows(of: Graph, folder: str) -> set[tuple[str, str]]:
    """Between the rooms of a folder, each direction once."""
    found = set()
    for name, imported in of.items():
        for other in imported:
            one, two = _room(name, folder), _room(other, folder)
            if one and two and one != two:
                found.add((one, two))
    return found


def rooms(of: Graph, folder: str) -> set[str]:
    """What lies directly in a folder."""
    return {room for name in of if (room := _room(name, folder))}


def _room(name: str, folder: str) -> str | None:
    if not name.startswith(f"{folder}."):
        return None
    return name.removeprefix(f"{folder}.").partition(".")[0]


def main() -> None:
    """Print it all."""
    of = graph()
    folders: dict[str, int] = defaultdict(int)
    for name in of:
        parts = name.split(".")
        for size in range(1, len(parts)):
            folders[".".join(parts[:size])] += 1
    print(f"{'folder':32} rooms arrows")  # noqa: T201
    for folder in sorted(folders):
        counts = len(rooms(of, folder)), len(arrows(of, folder))
        print(f"{folder:32} {counts[0]:5} {counts[1]:6}")  # noqa: T201
    for ring in circles(of):
        print("circle:", ", ".join(ring))  # noqa: T201


if __name__ == "__main__":
    main()
