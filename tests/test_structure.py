"""No circles, and every module has its tests; and how rooms and arrows are counted."""

from pathlib import Path

from tests.structure import PACKAGES, ROOT, arrows, circles, graph, rooms

TESTED_BY = {
    "actors/test_activation": "actors/birth actors/flow",
    "actors/test_host": "actors/pace actors/peer",
    "actors/bots/test_guest": "actors/attending",
    "cfmessenger/accounts/test_sessions": (
        "cfmessenger/accounts/session_names cfmessenger/accounts/session_record "
        "cfmessenger/accounts/tickets"
    ),
    "cfmessenger/bots/test_director": (
        "cfmessenger/bots/effects cfmessenger/bots/floor cfmessenger/bots/inbox "
        "cfmessenger/bots/ledger cfmessenger/bots/rotation"
    ),
    "cfmessenger/bots/test_in_rooms": "cfmessenger/bots/asking cfmessenger/bots/talk",
    "cfmessenger/bots/test_remote": (
        "cfmessenger/bots/breaker cfmessenger/bots/repliers cfmessenger/bots/wording"
    ),
    "cfmessenger/bots/test_scripted": (
        "cfmessenger/bots/quiz cfmessenger/bots/reading cfmessenger/bots/replier "
        "cfmessenger/bots/voices"
    ),
    "cfmessenger/chat/test_presence": "cfmessenger/chat/watchers",
    "cfmessenger/chat/test_room": (
        "cfmessenger/chat/members cfmessenger/chat/receipts cfmessenger/chat/room_time "
        "cfmessenger/chat/typing_indicator"
    ),
    "cfmessenger/cli/test_backup": "cfmessenger/cli/restore",
    "cfmessenger/cli/test_chat": (
        "cfmessenger/cli/lines cfmessenger/cli/screen cfmessenger/cli/visit"
    ),
    "cfmessenger/cli/test_cli": (
        "cfmessenger/cli/flags cfmessenger/cli/settings_help cfmessenger/__main__"
    ),
    "cfmessenger/cli/test_supervisor": "cfmessenger/cli/service",
    "cfmessenger/client/test_connection": (
        "cfmessenger/client/frames cfmessenger/client/mailbox cfmessenger/client/offset"
    ),
    "cfmessenger/client/test_reconnect": (
        "cfmessenger/client/errors cfmessenger/client/urls"
    ),
    "cfmessenger/client/test_session": (
        "cfmessenger/client/envelope cfmessenger/client/room"
    ),
    "cfmessenger/client/test_state": (
        "cfmessenger/client/events cfmessenger/client/presence "
        "cfmessenger/client/room_state"
    ),
    "cfmessenger/data/test_schema": (
        "cfmessenger/data/engine cfmessenger/data/currencies cfmessenger/data/tables "
        "cfmessenger/data/migrations/env "
        "cfmessenger/data/migrations/versions/v0001_users_and_orders "
        "cfmessenger/data/migrations/versions/v0002_usage"
    ),
    "cfmessenger/data/test_servers": "cfmessenger/data/transactions",
    "cfmessenger/data/test_store": "cfmessenger/data/quota",
    "cfmessenger/cli/test_load": "cfmessenger/cli/load_flags",
    "cfmessenger/load/test_display": "cfmessenger/load/tables",
    "cfmessenger/load/test_processes": "cfmessenger/load/machine",
    "cfmessenger/load/test_report": "cfmessenger/load/document",
    "cfmessenger/load/test_scenarios": (
        "cfmessenger/load/actor_link cfmessenger/load/actor_room "
        "cfmessenger/load/actor_target cfmessenger/load/crew cfmessenger/load/desk "
        "cfmessenger/load/gateway_target cfmessenger/load/lines "
        "cfmessenger/load/local_workers cfmessenger/load/people "
        "cfmessenger/load/presence_seat cfmessenger/load/run cfmessenger/load/seat "
        "cfmessenger/load/talk cfmessenger/load/worker cfmessenger/load/scenario/churn "
        "cfmessenger/load/scenario/coming "
        "cfmessenger/load/scenario/hot cfmessenger/load/scenario/idle "
        "cfmessenger/load/scenario/mixed cfmessenger/load/scenario/opening "
        "cfmessenger/load/scenario/presence cfmessenger/load/scenario/slow "
        "cfmessenger/load/scenario/steady cfmessenger/load/scenario/times "
        "cfmessenger/load/scenario/wake"
    ),
    "cfmessenger/test_settings": "cfmessenger/addresses cfmessenger/environment",
    "cfmessenger/wire/test_visible": "cfmessenger/wire/ignorable",
    "gateway/api/docs/test_asyncapi": (
        "gateway/api/docs/examples gateway/api/docs/schema"
    ),
    "gateway/api/docs/test_openapi": (
        "gateway/api/docs/collections gateway/api/docs/operation "
        "gateway/api/operations gateway/api/payloads"
    ),
    "gateway/api/test_admission": "gateway/envelope gateway/origin",
    "gateway/api/test_names": "gateway/live/people",
    "gateway/api/test_endpoints": (
        "gateway/api/hub gateway/api/rooms gateway/api/rotation"
    ),
    "gateway/live/test_bots": "cfmessenger/bots/figures",
    "gateway/live/test_links": "gateway/live/link",
    "gateway/live/test_sockets": (
        "gateway/live/connections gateway/live/paging gateway/live/stubs"
    ),
    "gateway/live/test_stub": (
        "gateway/live/life gateway/live/outlet gateway/live/overdue"
    ),
    "gateway/live/test_wire_presence": "gateway/live/own_words",
    "gateway/server/test_configuration": (
        "gateway/server/http_protocol gateway/server/refusals"
    ),
    "system/cluster/test_ray_namespace": (
        "actors/object_actor actors/ray_driver actors/ray_namespace actors/wake_trial "
        "cfmessenger/cli/load_ray"
    ),
    "system/cluster/test_roles": ("cfmessenger/cli/role cfmessenger/cli/up"),
    "system/cluster/test_up": "cfmessenger/asgi",
    "system/security/test_edge": "gateway/server/door",
}
"""Modules that another module's tests show, or those of the whole: below tests/."""


def test_no_module_imports_in_a_circle() -> None:
    assert circles(graph()) == []


def without_tests(root: Path, packages: tuple[str, ...] = PACKAGES) -> set[str]:
    """Paths without suffix that have no `test_` module in the same folder of tests/."""
    modules = (p for package in packages for p in (root / package).rglob("*.py"))
    return {
        path.relative_to(root).with_suffix("").as_posix()
        for path in modules
        if path.name != "__init__.py"
        and not _tests_of(path.relative_to(root), root).exists()
    }


def _tests_of(path: Path, root: Path) -> Path:
    return root / "tests" / path.parent / f"test_{path.name}"


def test_every_module_has_its_tests_or_is_named_with_them() -> None:
    named = [module for each in TESTED_BY.values() for module in each.split()]
    assert sorted(named) == sorted(without_tests(ROOT))
    assert all((ROOT / "tests" / f"{tests}.py").exists() for tests in TESTED_BY)


def test_a_module_without_tests_is_found(tmp_path: Path) -> None:
    made(tmp_path, one="", inner__two="")
    tests = tmp_path / "tests" / "pack" / "inner"
    tests.mkdir(parents=True)
    assert without_tests(tmp_path, ("pack",)) == {"pack/one", "pack/inner/two"}
    (tests / "test_two.py").touch()
    assert without_tests(tmp_path, ("pack",)) == {"pack/one"}


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
