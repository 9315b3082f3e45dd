"""What /metrics tells of the placement, and that it never waits long for it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import valkey

from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.valkey import Valkey
from gateway import metrics
from gateway.api import whereabouts
from gateway.api.whereabouts import Whereabouts
from tests.gateway.edge import gateway
from tests.gateway.node import OwnValkey, own_valkey
from tests.gateway.test_metrics import value
from tests.patience import Stopwatch


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "EVERY_S", 0.0)
    monkeypatch.setattr(whereabouts, "PATIENCE_S", 5.0)  # a busy machine's half second


@pytest.fixture
async def generation(
    empty_valkey: str, admin_valkey: valkey.Valkey
) -> AsyncIterator[Generation]:
    log = ValkeyLog(empty_valkey, 0)
    yield Generation(log)
    log.close()
    admin_valkey.delete(keys.log(NAME), keys.OWN_LOADS)  # others would follow it


async def test_exceptions_and_the_busiest_of_them_are_told(
    generation: Generation, empty_valkey: str
) -> None:
    await generation.seed("auto", 2, public=["room:general", "room:music"])
    await generation.pin("room:a")
    await generation.promote("room:b", "hot", now=1)
    await generation.say_load("room:a", 0.125)
    await generation.say_load("room:b", 0.75)
    async with gateway(empty_valkey) as edge, edge.client() as http:
        text = (await http.get("/metrics")).text
        counts = {
            why: value(text, f'cfm_placement_exceptions{{why="{why}"}}')
            for why in ("public", "pinned", "hot", "lived")
        }
        assert counts == {"public": 2, "pinned": 1, "hot": 1, "lived": 0}
        assert value(text, "cfm_hottest_room_share") == 0.75
        await generation.demote(["room:b"], now=2)
        await generation.withdraw_load("room:b")
        text = (await http.get("/metrics")).text
        assert value(text, 'cfm_placement_exceptions{why="hot"}') == 0
        assert value(text, "cfm_hottest_room_share") == 0.125
    assert "room:" not in text, "names of rooms are nobody's business"


async def test_it_is_read_at_most_once_a_second(
    generation: Generation, empty_valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereabouts, "EVERY_S", 3600.0)
    await generation.seed("auto", 2, public=["room:general"])
    async with gateway(empty_valkey) as edge, edge.client() as http:
        first = (await http.get("/metrics")).text
        await generation.pin("room:a")
        second = (await http.get("/metrics")).text
    sample = 'cfm_placement_exceptions{why="pinned"}'
    assert value(first, sample) == value(second, sample) == 0


@pytest.fixture
def server() -> Iterator[OwnValkey]:
    with own_valkey() as server:
        yield server


async def test_a_valkey_that_hangs_or_is_empty_leaves_them_out(
    server: OwnValkey,
) -> None:
    kv = Valkey(server.url)
    await server.answers()
    shown = Whereabouts(kv)
    metrics.PLACEMENT.show({"hot": 3}, 0.5)
    await shown.show()
    text = metrics.exposition().decode()
    assert "cfm_placement_exceptions" not in text, "no entry"
    assert value(text, "cfm_events_lost_total") == 0, "or its first rise goes unseen"
    metrics.PLACEMENT.show({"hot": 3}, 0.5)
    metrics.DAMAGE.show({"lost": 3})
    server.freeze()
    watch = Stopwatch()
    await shown.show()
    assert watch.seconds < 2 * whereabouts.PATIENCE_S + 0.5
    text = metrics.exposition().decode()
    assert "cfm_hottest_room_share" not in text
    assert "cfm_events_lost" not in text, "an older figure would look like a fall"
    server.thaw()
    kv.close()
