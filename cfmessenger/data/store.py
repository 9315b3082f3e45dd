"""The rows of every collection in SQL: list, read, create, change, delete.

Owns what is done in a transaction and whose rows a caller sees; what may become of a
row is its collection's to say. Everything a client sent reaches SQL as a bound
parameter. All methods may raise `ProtocolError` and `Unavailable`, the latter
`engine.TIMEOUT_S` after the call at the latest; the outcome of a write is then unknown,
and an Idempotency-Key or an If-Match makes it safe to repeat.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    func,
    select,
    tuple_,
)
from sqlalchemy import literal as bound
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cfmessenger.accounts.users import Profile, Words
from cfmessenger.data import schema
from cfmessenger.data.collection import Collection, Row
from cfmessenger.data.engine import default_url
from cfmessenger.data.query import Query
from cfmessenger.data.quota import UNLIMITED, Quota, count
from cfmessenger.data.registry import COLLECTIONS
from cfmessenger.data.tables import idempotency_keys, users
from cfmessenger.data.transactions import Transactions
from cfmessenger.environment import SettingsError
from cfmessenger.errors import ProtocolError
from cfmessenger.settings import Settings

KEY_LIFE_MS = 24 * 3600 * 1000
"""How long an Idempotency-Key is remembered."""

Holds = Callable[[int], bool]
"""Whether a row of this revision is one that the caller's preconditions allow."""


class Found(msgspec.Struct, frozen=True):
    """A row and how often it was changed (the first revision is 1)."""

    row: Row
    revision: int


class Store:
    """One gateway's access to the database at `url`."""

    def __init__(
        self,
        url: str,
        collections: Mapping[str, Collection] = COLLECTIONS,
        quota: Quota = UNLIMITED,
    ) -> None:
        """Nothing is contacted yet; ValueError for a URL that cannot be meant."""
        self._quota = quota  # for what one user creates, in all collections
        self._url = url
        self.transactions = Transactions(url)
        self.collections = collections

    @classmethod
    def of(cls, settings: Settings) -> Store:
        """The database that these settings name; SettingsError if they cannot be."""
        try:
            return cls(
                settings.database_url or default_url(settings.data_dir),
                quota=Quota(settings.order_quota, settings.order_quota_bytes),
            )
        except ValueError as error:
            raise SettingsError(f"CFM_DATABASE_URL: {error}") from None

    async def start(self, profiles: Iterable[Profile]) -> None:
        """Migrate and seed; returns when the first request may come.

        Raises `Unavailable`; see `schema.prepare`.
        """
        await schema.prepare(self._url, profiles)

    async def ping(self) -> None:
        """Raises `Unavailable` unless the database answers soon."""
        await self.transactions.ping()

    async def aclose(self) -> None:
        """Gives back every connection."""
        await self.transactions.aclose()

    # Rows.

    async def page(
        self, collection: Collection, viewer: str, query: Query
    ) -> tuple[list[Row], str | None]:
        """Rows as the query asks, and the cursor of the next page if there is one."""
        columns = collection.table.c
        chosen = _visible(collection, viewer)
        for name, value in query.filters.items():
            chosen = chosen.where(columns[name] == bound(value, columns[name].type))
        keys = [columns[query.sort], columns["id"]]
        if query.after is not None:
            last = tuple_(
                *(bound(v, k.type) for v, k in zip(query.after, keys, strict=True))
            )
            here = tuple_(*keys)
            chosen = chosen.where(here < last if query.descending else here > last)
        order = [key.desc() if query.descending else key.asc() for key in keys]
        chosen = chosen.order_by(*order).limit(query.limit + 1)
        found = await self._all(chosen)
        rows = [_row(collection, each._mapping).row for each in found[: query.limit]]
        return rows, query.cursor(rows[-1]) if len(found) > query.limit else None

    async def get(self, collection: Collection, viewer: str, row_id: str) -> Found:
        """One row that the viewer may see; NOT_FOUND otherwise."""

        async def work(connection: AsyncConnection) -> Found:
            return await _find(connection, collection, viewer, row_id)

        return await self.transactions.read(work)

    async def create(
        self,
        collection: Collection,
        owner: str,
        sent: Mapping[str, Any],
        now: int,
        key: str | None = None,
    ) -> Found:
        """A new row, or with a `key` that was used already the row it made then.

        `now` is Unix ms. The rule's own errors, CONFLICT when the key came with
        something else, QUOTA_EXCEEDED.
        """
        made = _new(collection, owner, sent, now)

        async def work(connection: AsyncConnection) -> Found:
            if key is not None:
                digest = _digest(collection, sent)
                answer = msgspec.json.encode(made).decode()
                earlier = await self._claim(connection, owner, key, digest, answer, now)
                if earlier is not None:
                    row = msgspec.json.decode(earlier, type=collection.row)
                    return Found(row, 1)
            await count(connection, owner, 1, _size(made), self._quota)
            values = _values(collection, made) | {"revision": 1}
            await connection.execute(collection.table.insert().values(values))
            return Found(made, 1)

        return await self.transactions.write(work)

    async def change(
        self,
        collection: Collection,
        viewer: str,
        row_id: str,
        sent: Mapping[str, Any],
        now: int,
        holds: Holds,
    ) -> Found:
        """The row with these fields changed; what changes nothing keeps its revision.

        `now` is Unix ms. NOT_FOUND, FORBIDDEN (another's), PRECONDITION_FAILED, then
        the rule's own, QUOTA_EXCEEDED.
        """

        async def work(connection: AsyncConnection) -> Found:
            found = await self._for_write(connection, collection, viewer, row_id, holds)
            after = collection.rule(
                found.row, msgspec.structs.replace(found.row, **sent)
            )
            if after == found.row:
                return found
            if "updated_at" in collection.wire_names:
                then: Any = found.row
                at = max(now, then.updated_at)
                after = msgspec.structs.replace(after, updated_at=at)
            if collection.creates:
                grown = _size(after) - _size(found.row)
                await count(connection, viewer, 0, grown, self._quota)
            revision = found.revision + 1
            table = collection.table
            values = _values(collection, after) | {"revision": revision}
            await connection.execute(
                table.update().where(table.c.id == row_id).values(values)
            )
            return Found(after, revision)

        return await self.transactions.write(work)

    async def delete(
        self, collection: Collection, viewer: str, row_id: str, holds: Holds
    ) -> Found:
        """The row that is no more; errors as `change`."""

        async def work(connection: AsyncConnection) -> Found:
            found = await self._for_write(connection, collection, viewer, row_id, holds)
            table = collection.table
            await connection.execute(table.delete().where(table.c.id == row_id))
            await count(connection, viewer, -1, -_size(found.row), self._quota)
            return found

        return await self.transactions.write(work)

    async def _for_write(
        self,
        connection: AsyncConnection,
        collection: Collection,
        viewer: str,
        row_id: str,
        holds: Holds,
    ) -> Found:
        found = await _find(connection, collection, viewer, row_id, lock=True)
        if getattr(found.row, collection.owner) != viewer:
            raise ProtocolError("FORBIDDEN")
        if not holds(found.revision):
            raise ProtocolError("PRECONDITION_FAILED")
        return found

    # Idempotency keys.

    async def _claim(
        self,
        connection: AsyncConnection,
        user_id: str,
        key: str,
        digest: str,
        answer: str,
        now: int,
    ) -> str | None:
        """None when the key is new (and now taken), else what was answered then."""
        table = idempotency_keys
        mine = (table.c.user_id == user_id) & (table.c.key == key)
        expired = table.c.created_at <= now - KEY_LIFE_MS
        await self._forget(connection, mine & expired)
        values = {
            "user_id": user_id,
            "key": key,
            "digest": digest,
            "answer": answer,
            "created_at": now,
        }
        insert = postgresql.insert if self.transactions.file is None else sqlite.insert
        # With PostgreSQL this waits for whoever is just using the same key.
        taken = await connection.execute(
            insert(table).values(values).on_conflict_do_nothing()
        )
        if taken.rowcount:
            await count(connection, user_id, 0, len(answer), self._quota)
            return None
        found = (await connection.execute(select(table).where(mine))).mappings().one()
        if found["digest"] != digest:
            raise ProtocolError(
                "CONFLICT", "was used for something else", field="Idempotency-Key"
            )
        return str(found["answer"])

    async def purge(self, now: int) -> None:
        """Forget the idempotency keys whose time is over; `now` is Unix ms."""
        table = idempotency_keys
        expired = table.c.created_at <= now - KEY_LIFE_MS

        async def work(connection: AsyncConnection) -> None:
            await self._forget(connection, expired)

        await self.transactions.write(work)

    async def _forget(
        self, connection: AsyncConnection, which: ColumnElement[bool]
    ) -> None:
        columns = idempotency_keys.c
        deleted = idempotency_keys.delete().where(which)
        gone = deleted.returning(columns.user_id, func.length(columns.answer))
        freed: Counter[str] = Counter()
        for user_id, size in await connection.execute(gone):
            freed[user_id] += size
        for user_id, size in sorted(freed.items()):  # the same order for all
            await count(connection, user_id, 0, -size, self._quota)

    # What people call themselves.

    async def own_words(self, user_id: str | None = None) -> dict[str, Words]:
        """Name, message and picture of those who ever changed theirs, by user id.

        `user_id` None: of everybody.
        """
        columns = users.c
        wanted = select(
            columns.id,
            columns.display_name,
            columns.personal_message,
            columns.avatar_id,
            columns.revision,
        ).where(columns.own)
        if user_id is not None:
            wanted = wanted.where(columns.id == user_id)
        rows = await self._all(wanted)
        return {row[0]: Words(*row[1:]) for row in rows}

    async def _all(self, wanted: Select[Any]) -> Sequence[Any]:
        async def work(connection: AsyncConnection) -> Sequence[Any]:
            found: Sequence[Any] = (await connection.execute(wanted)).all()
            return found

        return await self.transactions.read(work)


def _visible(collection: Collection, viewer: str) -> Select[Any]:
    table = collection.table
    chosen = select(table)
    if collection.listed is not None:
        chosen = chosen.where(collection.listed)
    if not collection.public:
        chosen = chosen.where(table.c[collection.owner] == viewer)
    return chosen


async def _find(
    connection: AsyncConnection,
    collection: Collection,
    viewer: str,
    row_id: str,
    *,
    lock: bool = False,
) -> Found:
    if "\x00" in row_id:  # which PostgreSQL has no text with
        raise ProtocolError("NOT_FOUND")
    chosen = _visible(collection, viewer).where(collection.table.c.id == row_id)
    if lock:
        chosen = chosen.with_for_update()
    found = (await connection.execute(chosen)).mappings().one_or_none()
    if found is None:
        raise ProtocolError("NOT_FOUND")
    return _row(collection, found)


def _new(collection: Collection, owner: str, sent: Mapping[str, Any], now: int) -> Row:
    servers: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        collection.owner: owner,
        "created_at": now,
        "updated_at": now,
    }
    has = collection.wire_names
    fields = {name: value for name, value in servers.items() if name in has}
    made: Row = collection.rule(
        None, collection.row(**fields, **{**collection.initial, **sent})
    )
    return made


def _row(collection: Collection, found: RowMapping) -> Found:
    fields = {
        wire: value
        for name, wire in collection.wire_names.items()
        if (value := found[name]) is not None
    }
    return Found(msgspec.convert(fields, collection.row), found["revision"])


def _values(collection: Collection, row: Row) -> dict[str, Any]:
    return {
        name: msgspec.to_builtins(getattr(row, name)) for name in collection.wire_names
    }


def _size(row: Row) -> int:
    return len(msgspec.json.encode(row).decode())


def _digest(collection: Collection, sent: Mapping[str, Any]) -> str:
    said = msgspec.json.encode([collection.name, sorted(sent.items())])
    return hashlib.sha256(said).hexdigest()
