"""The import laws of the architecture (design.md §2), read off the syntax trees."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MACHINES = {
    f"cfmessenger/{name}.py"
    for name in (
        "chat/room chat/presence chat/ratelimit chat/effects wire/protocol errors ids "
        "bots/director"
    ).split()
}
IMPURE_MODULES = set(
    "asyncio datetime logging os random secrets socket threading time uuid".split()
)
# What each place may import besides the standard library and `cfmessenger`; the longest
# matching path counts. Adding a line is a decision about the architecture.
MAY_IMPORT = {
    "cfmessenger/": {"msgspec"},
    "cfmessenger/asgi.py": {"*"},
    "cfmessenger/bots/remote.py": {"msgspec", "httpx2"},
    "cfmessenger/cli/": {"*"},
    "cfmessenger/client/": {"msgspec", "httpx2", "websockets"},
    "cfmessenger/data/": {"alembic", "asyncpg", "msgspec", "sqlalchemy"},
    "cfmessenger/load/": {"*"},
    "cfmessenger/accounts/login_rate.py": {"valkey"},
    "cfmessenger/memory.py": {"psutil"},
    "cfmessenger/accounts/sessions.py": {"msgspec", "valkey"},
    "cfmessenger/storage/shared_rate.py": {"valkey"},
    "cfmessenger/storage/": {"msgspec", "libvalkey", "valkey"},
    "cfmessenger/accounts/tickets.py": {"valkey"},
    "cfmessenger/accounts/turnstile.py": {"msgspec", "httpx2", "valkey"},
    "actors/": {"actors", "msgspec"},
    "actors/ray_namespace.py": {"actors", "msgspec", "ray"},
    "actors/warm_pool.py": {"actors", "msgspec", "ray"},
    "gateway/": {"gateway", "msgspec", "starlette", "uvicorn"},
    "gateway/metrics.py": {"prometheus_client"},
    "gateway/server/http_protocol.py": {"gateway", "uvicorn", "h11"},
    "gateway/server/websocket_protocol.py": {"gateway", "uvicorn", "websockets"},
}


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from cfmessenger.chat import room` counts as importing that module.
            base = [node.module] if node.module else []
            if node.level:
                base = [*name.split("/")[: -node.level], *base]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def test_every_import_is_one_that_its_place_may_make() -> None:
    broken = []
    for name, tree in modules("cfmessenger", "actors", "gateway"):
        place = max((path for path in MAY_IMPORT if name.startswith(path)), key=len)
        allowed = MAY_IMPORT[place] | {"cfmessenger"} | sys.stdlib_module_names
        roots = {module.partition(".")[0] for module in imported(name, tree)}
        if "*" not in allowed and not roots <= allowed:
            broken.append(f"{name} imports {sorted(roots - allowed)}")
    assert not broken


def test_state_machines_and_all_they_use_know_no_clock_no_chance_no_waiting() -> None:
    trees = dict(modules("cfmessenger"))
    seen = [name for name in trees if name in MACHINES]
    for name in seen:
        modules_used = {module.split(".")[0] for module in imported(name, trees[name])}
        assert not modules_used & IMPURE_MODULES, name
        for node in ast.walk(trees[name]):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), name
        for module in imported(name, trees[name]):
            if module.startswith("cfmessenger."):
                path = next((p for p in _files(module) if p in trees), None)
                assert path is not None, f"{name} uses {module}"
                seen += [path] if path not in seen else []


def _files(module: str) -> Iterator[str]:
    """Where a module may be, or what it is a name of: the longest path first."""
    parts = module.split(".")
    for size in range(len(parts), 1, -1):
        yield "/".join(parts[:size]) + ".py"
        yield "/".join(parts[:size]) + "/__init__.py"


def test_every_module_says_what_it_is_for() -> None:
    for name, tree in modules("cfmessenger", "actors", "gateway", "tests"):
        assert ast.get_docstring(tree), name
