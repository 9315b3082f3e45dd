"""Every gateway's directory follows what people call themselves."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cfmessenger.accounts.users import Directory, Words
from cfmessenger.data.engine import TIMEOUT_S
from cfmessenger.data.names import Names
from cfmessenger.data.store import Store
from cfmessenger.errors import ProtocolError, Unavailable
from cfmessenger.settings import Rate
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.cfmessenger.data.conftest import Pair
from tests.gateway.node import eventually


@asynccontextmanager
async def gateway(store: Store, url: str) -> AsyncIterator[tuple[Names, Directory]]:
    kv, directory = Valkey(url), Directory.load()
    names = Names(store, kv, directory)
    async with names.following(lambda: 0):
        yield names, directory
    kv.close()


async def rename(store: Store, user_id: str, name: str, **more: Any) -> None:
    users = store.collections["users"]
    change = {"display_name": name, **more}
    await store.change(users, user_id, user_id, change, 1, lambda revision: True)


def called(directory: Directory, user_id: str) -> str:
    found = directory.person(user_id)
    assert found is not None and found in directory.people
    return found.display_name


async def test_here_at_once_and_elsewhere_soon(pair: Pair, valkey_url: str) -> None:
    async with gateway(pair[0], valkey_url) as (names, here):
        async with gateway(pair[1], valkey_url) as (_, there):
            order = [each.id for each in here]
            said = {"display_name": "Trillian", "personal_message": "so long"}
            await names.change("user_3", said | {"avatar_id": "guitar"}, 1)
            assert called(here, "user_3") == "Trillian"
            assert here.person("user_3").personal_message == "so long"  # type: ignore[union-attr]
            await eventually(lambda: called(there, "user_3") == "Trillian")
            assert there.person("user_3").avatar_id == "guitar"  # type: ignore[union-attr]
            assert here.revision("user_3") == there.revision("user_3") > 1
            assert [each.id for each in here] == [each.id for each in there] == order


async def test_what_was_changed_before_is_known_at_the_start(
    pair: Pair, valkey_url: str
) -> None:
    await rename(pair[0], "user_4", "Early")
    async with gateway(pair[1], valkey_url) as (_, directory):
        assert called(directory, "user_4") == "Early"


async def test_what_was_never_told_is_found_at_the_next_look(
    pair: Pair, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changed the row died before telling."""
    monkeypatch.setattr("cfmessenger.data.names.LOOK_AGAIN_S", 0.02)
    async with gateway(pair[1], valkey_url) as (_, directory):
        await rename(pair[0], "user_5", "Quiet")
        await eventually(lambda: called(directory, "user_5") == "Quiet")


async def test_with_valkey_away_the_old_name_stays(pair: Pair) -> None:
    """A change that nobody can count is none."""
    directory = Directory.load()
    names = Names(pair[0], Valkey("unix:///nowhere/at/all"), directory)
    before = called(directory, "user_6")
    with pytest.raises(Unavailable):
        await names.change("user_6", {"display_name": "Alone"}, 1)
    await names.refresh()
    assert called(directory, "user_6") == before
    # What changes nothing needs nobody.
    await names.change("user_6", {"display_name": before}, 1)


async def test_whoever_listens_hears_of_changed_rows_alone(
    pair: Pair, valkey_url: str
) -> None:
    async with gateway(pair[0], valkey_url) as (names, directory):
        heard: list[str] = []
        names.heard = heard.extend
        message = directory.person("user_8").personal_message  # type: ignore[union-attr]
        await names.change("user_8", {"personal_message": message}, 1)
        assert heard == []
        await names.change("user_8", {"personal_message": ""}, 1)
        await names.refresh()
        assert heard == ["user_8"]
        assert directory.person("user_8").personal_message is None  # type: ignore[union-attr]


async def test_five_changes_a_minute_whatever_gateway(
    pair: Pair, valkey_url: str
) -> None:
    async with gateway(pair[0], valkey_url) as (one, _):
        async with gateway(pair[1], valkey_url) as (other, there):
            await one._kv.ask("DEL", keys.words("user_9"))  # of another database
            for number in range(5):
                names = (one, other)[number % 2]
                await names.change("user_9", {"display_name": f"Name {number}"}, 1)
            with pytest.raises(ProtocolError) as caught:
                await other.change("user_9", {"display_name": "Once more"}, 1)
            assert caught.value.code == "RATE_LIMITED"
            await eventually(lambda: called(there, "user_9") == "Name 4")
            await one.change("user_10", {"display_name": "Another"}, 1)


async def test_names_that_follow_fast_end_with_the_last(
    pair: Pair, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfmessenger.data.names.CHANGES", Rate(0))
    async with gateway(pair[0], valkey_url) as (names, here):
        async with gateway(pair[1], valkey_url) as (_, there):
            for number in range(10):
                await names.change("user_7", {"display_name": f"Name {number}"}, 1)
            assert called(here, "user_7") == "Name 9"
            await eventually(lambda: called(there, "user_7") == "Name 9")


def test_somebody_who_is_not_on_the_list_is_passed_over() -> None:
    directory = Directory.load()
    assert directory.learn({"stranger": Words("X", None, "star", 2)}) == []
    assert directory.get("stranger") is None
    assert len(directory.people) == 20


async def test_who_looks_behind_others_is_answered_in_time_too(
    tmp_path: Path, valkey_url: str
) -> None:
    """Looks come one after the other, and a locked file must not add their waits up."""
    file = tmp_path / "messenger.sqlite3"
    store = Store(f"sqlite:///{file}")
    await store.start(Directory.load())
    kv = Valkey(valkey_url)
    names = Names(store, kv, Directory.load())
    await store.aclose()  # no reader has the file open
    stranger = sqlite3.connect(file, isolation_level=None)
    stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
    stranger.execute("BEGIN EXCLUSIVE")
    async with patience.within(TIMEOUT_S + 3.0):  # before: 20 s
        looks = (names.refresh() for _ in range(4))
        found = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable] * 4
    stranger.close()
    await names.refresh()
    await store.aclose()
    kv.close()
