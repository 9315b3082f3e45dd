"""Whose CPU time is whose: a process that ends, comes, or becomes another."""

import pytest

from tests.bench.meter import Reading, our_kind, peer_kind


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("/venv/bin/python -m cfmessenger gateway", "gateway"),
        ("ray::ObjectActor", "actors"),
        ("ray::IDLE", "rest"),
        ("/somewhere/valkey-server unixsocket:/x", "valkey"),
        ("/venv/bin/python -m cfmessenger up --port 0", "rest"),
        ("", "rest"),
    ],
)
def test_our_processes_are_told_apart(line: str, kind: str) -> None:
    assert our_kind(line) == kind


def test_of_a_peer_everything_but_its_valkey_is_the_server() -> None:
    assert peer_kind("node node_ws.js 1234") == "server"
    assert peer_kind("valkey-server --port 1") == "valkey"


def test_time_goes_to_the_kind_of_its_process() -> None:
    before = Reading({1: 1.0, 2: 5.0}, {1: "rest", 2: "gateway"})
    after = Reading({1: 1.5, 2: 7.0}, {1: "rest", 2: "gateway"})
    assert after.spent_s(before) == {"rest": 0.5, "gateway": 2.0}


def test_a_worker_that_became_an_actor_was_one_all_the_time() -> None:
    before = Reading({1: 1.0}, {1: "rest"})
    after = Reading({1: 3.0}, {1: "actors"})
    assert after.spent_s(before) == {"actors": 2.0}


def test_what_ended_is_counted_once_through_its_parent() -> None:
    # 2 had used 5 s, uses 1 more, ends: its parent's figure grows by 6.
    before = Reading({1: 1.0, 2: 5.0}, {1: "rest", 2: "actors"}, {2: 1})
    after = Reading({1: 7.0}, {1: "rest"})
    assert after.spent_s(before) == {"rest": 1.0}


def test_who_came_is_counted_from_its_beginning() -> None:
    assert Reading({1: 1.0, 2: 0.5}, {1: "rest", 2: "actors"}).spent_s(
        Reading({1: 1.0}, {1: "rest"})
    ) == {"rest": 0.0, "actors": 0.5}
