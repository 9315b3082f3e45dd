"""Metrics: closed label sets, and the sum over the processes of a node."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cfmessenger.placement import Placement
from gateway import metrics
from gateway.metrics import Durations
from tests.gateway.edge import gateway
from tests.gateway.node import OwnValkey, eventually, live, new_room, own_valkey

COUNTING = """
import os, sys
from gateway import metrics
metrics.DELIVERIES.labels("room").inc(int(sys.argv[1]))
metrics.SOCKETS.labels("room").inc(int(sys.argv[1]))
metrics.REQUEST_SECONDS.labels("/x").observe(0.003)
sys.stdout.write(str(os.getpid()))
"""
READING = """
import sys
from prometheus_client.multiprocess import mark_process_dead
from gateway import metrics
for pid in sys.argv[1:]:
    mark_process_dead(int(pid))
sys.stdout.write(metrics.exposition().decode())
"""


def run(script: str, directory: Path, *arguments: str) -> str:
    env = os.environ | {metrics.DIRECTORY_VARIABLE: str(directory)}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def value(text: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.M)
    assert found is not None, sample
    return float(found[1])


def test_any_process_tells_the_sum_of_all(tmp_path: Path) -> None:
    first = run(COUNTING, tmp_path, "3")
    run(COUNTING, tmp_path, "4")
    text = run(READING, tmp_path)
    assert value(text, 'cfm_deliveries_total{kind="room"}') == 7
    assert value(text, 'cfm_sockets{kind="room"}') == 7
    assert value(text, 'cfm_http_request_seconds_count{route="/x"}') == 2
    assert value(text, 'cfm_http_request_seconds_bucket{le="0.005",route="/x"}') == 2
    # A process that died takes its gauges with it, its counts stay counted.
    text = run(READING, tmp_path, first)
    assert value(text, 'cfm_deliveries_total{kind="room"}') == 7
    assert value(text, 'cfm_sockets{kind="room"}') == 4


def collectors() -> dict[str, Counter | Gauge | Histogram]:
    kinds = (Counter, Gauge, Histogram)
    return {n: each for n, each in vars(metrics).items() if isinstance(each, kinds)}


def figures() -> dict[tuple[str, str], float]:
    """What /metrics tells, by collector, sample and labels."""
    metrics.publish_traffic()
    return {
        (name, f"{sample.name}{sorted(sample.labels.items())}"): sample.value
        for name, collector in collectors().items()
        for family in collector.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def moved_since(before: dict[tuple[str, str], float]) -> set[str]:
    now = figures()
    return {name for name, each in now if now[name, each] != before.get((name, each))}


@pytest.fixture
async def storage() -> AsyncIterator[OwnValkey]:
    """A Valkey whose memory has a limit, far above what is used."""
    with own_valkey() as storage:
        await storage.answers()
        with storage.admin() as admin:
            admin.config_set("maxmemory", 2**30)
        yield storage


async def test_every_figure_moves_with_what_it_counts(
    storage: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.gateway.node.PLACEMENT", Placement("auto", 1, 1))
    before = figures()
    # Where rooms leave.
    async with live(storage.url, alone=True, hibernate_after="0.2") as node:
        room = new_room()
        al, bo = await node.enter("user_1", room), await node.enter("user_2", room)
        watcher = await node.watch("user_1")
        await al.say("hello")
        await bo.has("chat", content="hello")
        await watcher.send("presence_update", status="busy")
        await watcher.has("presence_update", userId="user_1", status="busy")
        await node.gateways[0].raw(b"hello\r\n\r\n")
        await node.namespace.pin(f"room:{room}")
        await node.asleep(f"room:{room}")
        await al.say("hello from elsewhere")
        await al.close()
        # What cuts a gateway off is in tests/gateway/live/test_cut_off.py.
        everything = collectors().keys() - {"CUT_OFF"}
        await eventually(lambda: moved_since(before) == everything)
    text = metrics.exposition().decode()
    for kind in ("room", "presence"):
        for name in ("frames_received", "deliveries", "delivered_bytes"):
            assert value(text, f'cfm_{name}_total{{kind="{kind}"}}') > 0


async def test_traffic_is_counted_exactly(valkey_url: str) -> None:
    async with live(valkey_url) as node:
        room = new_room()
        people = [await node.enter(f"user_{n}", room) for n in range(1, 4)]
        metrics.publish_traffic()
        before = figures()
        for n in range(5):
            await people[0].say(f"message {n}")
        for each in people:
            await each.has("chat", content="message 4")
        after = figures()
    changed = {
        name: after[name, sample] - before.get((name, sample), 0)
        for name, sample in after
        if "'room'" in sample and name in ("FRAMES_RECEIVED", "DELIVERIES")
    }
    assert changed == {"FRAMES_RECEIVED": 5, "DELIVERIES": 15}


async def test_no_label_comes_from_a_client(valkey_url: str) -> None:
    async with gateway(valkey_url) as edge, edge.client() as http:
        await http.request("BREW", "/api/config")
        await http.get("/some/made-up/path-of-mine")
        await http.get("/api/rooms/room-of-mine/messages")
        text = (await http.get("/metrics")).text
    assert "mine" not in text and "BREW" not in text
    labels = 'method="OTHER",route="/api/config",status="405"'
    assert value(text, f"cfm_http_requests_total{{{labels}}}") >= 1
    labels = 'method="GET",route="unmatched",status="404"'
    assert value(text, f"cfm_http_requests_total{{{labels}}}") >= 1
    names = set(re.findall(r"^(cfm_\w+?)(?:_bucket)?{?", text, re.M))
    assert all(not name.endswith(("_ms", "_milliseconds")) for name in names)


def test_what_the_bots_did_is_told_as_read_and_not_summed(tmp_path: Path) -> None:
    showing = f"""
from gateway import metrics
figures = {{"replies": 3, "latency_ms": 4500, "refused_busy": 1, "refused_off": 2}}
metrics.BOTS.show({{"bot_b": figures, "bot_a": {{"mentions": 5}}}})
{READING}"""
    run(COUNTING, tmp_path, "3")
    text = run(showing, tmp_path)
    assert value(text, 'cfm_bot_replies_total{bot="bot_b"}') == 3
    assert value(text, 'cfm_bot_mentions_total{bot="bot_a"}') == 5
    assert value(text, 'cfm_bot_latency_seconds_total{bot="bot_b"}') == 4.5
    refused = 'cfm_bot_refusals_total{{bot="bot_b",reason="{}"}}'
    assert value(text, refused.format("busy")) == 1
    assert value(text, refused.format("off")) == 2
    assert value(text, 'cfm_deliveries_total{kind="room"}') == 3, "beside the sums"
    assert "cfm_bot" not in run(READING, tmp_path), "another process read nothing"


def test_durations_tell_a_histogram_what_it_would_have_observed() -> None:
    told, one_by_one = CollectorRegistry(), CollectorRegistry()
    buckets = (0.001, 0.5, 2)
    durations = Durations(Histogram("d", "D.", buckets=buckets, registry=told))
    histogram = Histogram("d", "D.", buckets=buckets, registry=one_by_one)
    for rounds in ((0.0, 0.001, 0.0011, 0.5, 7.5), (), (2.0, 0.25)):
        for seconds in rounds:
            durations.observe(seconds)
            histogram.observe(seconds)
        durations.publish()
        for suffix, labels in [
            *(("_bucket", {"le": le}) for le in ("0.001", "0.5", "2.0", "+Inf")),
            ("_sum", {}),
            ("_count", {}),
        ]:
            expected = one_by_one.get_sample_value(f"d{suffix}", labels)
            assert told.get_sample_value(f"d{suffix}", labels) == expected
