"""The import laws of the architecture (design.md §2), read off the syntax trees."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.structure import graph

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
    "cfmessenger/memory.py": {"psutil"},
    "cfmessenger/storage/resp.py": {"libvalkey", "valkey"},
    "cfmessenger/accounts/turnstile.py": {"msgspec", "httpx2"},
    "actors/": {"actors", "msgspec"},
    "actors/object_actor.py": {"actors", "msgspec", "ray"},
    "actors/leaving.py": {"actors", "psutil"},
    "actors/nodes.py": {"actors", "ray"},
    "actors/ray_driver.py": {"actors", "ray"},
    "actors/ray_namespace.py": {"actors", "msgspec", "ray"},
    "actors/raylet.py": {"psutil"},
    "actors/wake_trial.py": {"actors", "msgspec", "ray"},
    "actors/warm_pool.py": {"actors", "msgspec", "ray"},
    "gateway/": {"gateway", "msgspec", "starlette", "uvicorn"},
    "gateway/metrics.py": {"prometheus_client"},
    "gateway/server/http_protocol.py": {"gateway", "uvicorn", "h11"},
    "gateway/server/frames.py": {"websockets"},
    "gateway/server/handshake.py": {"gateway", "uvicorn", "websockets"},
    "gateway/server/websocket_protocol.py": {"gateway", "uvicorn", "websockets"},
}

GROUND = (
    "addresses backoff background clock environment errors flights ids log_format "
    "memory placement references seldom settings tls"
).split()
"""Modules directly in `cfmessenger`: any folder may use them; they use no folder."""

MAY_USE = {
    "cfmessenger.wire": "",
    "cfmessenger.chat": "wire",
    "cfmessenger.link": "wire chat",
    "cfmessenger.storage": "chat",
    "cfmessenger.accounts": "wire storage",
    "cfmessenger.bots": "wire chat storage accounts",
    "cfmessenger.data": "wire storage accounts",
    "cfmessenger.client": "wire",
    "cfmessenger.load": "wire chat link storage client",
    "cfmessenger.asgi": "*",
    "cfmessenger.cli": "*",
    "cfmessenger.__main__": "cli",
    "actors": "wire chat link storage",
    "actors.bots": "chat storage accounts bots actors",
    "gateway.metrics": "",
    "gateway.forwarded": "",
    "gateway.envelope": "",
    "gateway.origin": "forwarded",
    "gateway.middleware": "metrics envelope origin",
    "gateway.server": "accounts metrics forwarded envelope middleware",
    "gateway.api": "wire chat storage accounts data metrics envelope origin",
    "gateway.live": "wire chat link storage accounts bots metrics envelope server api",
    "gateway.web": "api",
    "gateway.app": "envelope origin middleware api live web",
}
"""Each folder and what it may use, from the bottom to the top of its package."""


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


def test_folders_use_what_is_below_them_and_nothing_else() -> None:
    used: dict[str, set[str]] = {place: set() for place in MAY_USE}
    for name, found in graph().items():
        place = placed(name)
        used.setdefault(place, set()).update(placed(each) for each in found)
        used[place].discard(place)
    assert used.pop("cfmessenger") == used.pop("gateway") == set()
    for place in GROUND:
        assert used.pop(f"cfmessenger.{place}") <= ground(), place
    for place, law in MAY_USE.items():
        found = {each.partition(".")[2] or each for each in used.pop(place) - ground()}
        # What is allowed and not used is a law that nobody needs.
        assert law == "*" or found == set(law.split()), place
    assert not used, "a folder or module without a law"


def ground() -> set[str]:
    return {"cfmessenger", *(f"cfmessenger.{name}" for name in GROUND)}


def placed(module: str) -> str:
    """The place that a module belongs to, as MAY_USE names it."""
    if module.startswith("actors"):
        return "actors.bots" if module.startswith("actors.bots") else "actors"
    return ".".join(module.split(".")[:2])


GUESTS = re.compile(
    r"[Bb]ots?(?![a-z])|BOTS?|[Dd]irectors?(?![a-z])|DIRECTOR|[Pp]ersonas?(?![a-z])"
)
"""What no module of the kernel may say, in code or in words."""

NAMED_ON_THE_WAY = re.compile(r'\b(tag|name)="\w+"')
"""What a struct is called in msgpack: other releases still say it so."""


def test_the_kernel_names_no_guest() -> None:
    kernel = [path for path, _ in modules("actors") if "/bots/" not in path]
    kernel += [path for path, _ in modules("cfmessenger/chat")]
    kernel += ["cfmessenger/ids.py", "cfmessenger/storage/derived.py"]
    found = {
        f"{path}: {line.strip()}"
        for path in kernel
        for line in (ROOT / path).read_text().splitlines()
        if GUESTS.search(NAMED_ON_THE_WAY.sub("", line))
    }
    assert not found


def test_no_arrow_points_upward() -> None:
    places = [place.partition(".")[2] or place for place in MAY_USE]
    for at, (place, law) in enumerate(MAY_USE.items()):
        assert law == "*" or set(law.split()) <= set(places[:at]), place


def test_every_module_says_what_it_is_for() -> None:
    for name, tree in modules("cfmessenger", "actors", "gateway", "tests"):
        assert ast.get_docstring(tree), name
