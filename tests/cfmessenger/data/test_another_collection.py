"""A collection more is one struct, one table and one registration, as the README says.

The table's migration is the fourth part of a real one; here it is made directly.
"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from msgspec import Meta
from sqlalchemy import BigInteger, Boolean, Column, MetaData, Table

from cfmessenger.accounts.users import Directory
from cfmessenger.data.collection import Collection, Row
from cfmessenger.data.engine import engine
from cfmessenger.data.query import read_query
from cfmessenger.data.registry import COLLECTIONS, Milliseconds
from cfmessenger.data.store import Store
from cfmessenger.data.tables import ID, TEXT
from cfmessenger.errors import ProtocolError


class Note(Row):
    """Something to remember."""

    owner_id: str
    text: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
    done: bool
    updated_at: Milliseconds
    colour: Annotated[str, Meta(max_length=20, pattern="^[a-z]+$")] | None = None


METADATA = MetaData()
NOTES = Table(
    "notes",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("owner_id", ID, nullable=False),
    Column("text", TEXT, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("colour", TEXT),
    Column("revision", BigInteger, nullable=False),
)
COLLECTION = Collection(
    name="notes",
    row=Note,
    table=NOTES,
    owner="owner_id",
    creates=("text", "colour"),
    initial={"done": False},
    changes=("text", "done", "colour"),
    deletes=True,
    sort="-updatedAt",
)


@pytest.fixture
async def store(new_database: Callable[[], str]) -> AsyncIterator[Store]:
    url = new_database()
    store = Store(url, {**COLLECTIONS, "notes": COLLECTION})
    await store.start(Directory.load())
    made = engine(url, starting=True)
    async with made.execution_options(writes=True).begin() as connection:
        await connection.run_sync(METADATA.create_all)
    await made.dispose()
    yield store
    await store.aclose()


def always(revision: int) -> bool:
    return True


async def test_its_rows_are_made_listed_changed_and_deleted(store: Store) -> None:
    notes = store.collections["notes"]
    sent = notes.read_new(b'{"text":"milk"}')
    made = await store.create(notes, "user_1", sent, 5)
    assert made.row == Note(
        id=made.row.id, owner_id="user_1", text="milk", done=False, updated_at=5
    )
    blue = await store.create(
        notes, "user_1", notes.read_new(b'{"text":"bread","colour":"blue"}'), 6
    )
    await store.create(notes, "user_2", sent, 7)

    async def listed(*given: tuple[str, str]) -> list[Any]:
        query = read_query(notes, "user_1", given)
        return (await store.page(notes, "user_1", query))[0]

    assert await listed() == [blue.row, made.row]
    assert await listed(("done", "false"), ("colour", "blue")) == [blue.row]
    change = notes.read_change(b'{"done":true}')
    changed = await store.change(notes, "user_1", made.row.id, change, 9, always)
    assert await listed(("done", "true")) == [changed.row]
    assert await listed(("sort", "done")) == [blue.row, changed.row]
    assert await store.delete(notes, "user_1", made.row.id, always) == changed
    assert await listed() == [blue.row]


def test_what_its_clients_may_send_follows_from_its_struct() -> None:
    with pytest.raises(ProtocolError, match="colour: is not of the right kind"):
        COLLECTION.read_new(b'{"text":"x","colour":null}')
    with pytest.raises(ProtocolError, match="text: is missing"):
        COLLECTION.read_new(b"{}")
    with pytest.raises(ProtocolError, match="done: is not a field that can be given"):
        COLLECTION.read_new(b'{"text":"x","done":true}')
    with pytest.raises(ProtocolError, match="sort: must be one of done, id, ownerId, "):
        read_query(COLLECTION, "user_1", [("sort", "colour")])


@pytest.mark.parametrize("name", ["cursor", "limit", "sort"])
def test_a_field_may_not_be_called_what_a_query_needs(name: str) -> None:
    with pytest.raises(AssertionError, match=name):
        Collection(
            name="x",
            row=type("X", (Row,), {"__annotations__": {name: str}}),
            table=NOTES,
            owner="id",
        )
