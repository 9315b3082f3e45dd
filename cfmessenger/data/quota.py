"""How much one owner may keep: rows, and their size with that of idempotency keys.

Each owner has one row of counts. It changes in the transaction that makes or deletes
rows, by one statement that changes nothing if that would be too much. So no two at once
get past the limit, and the cost does not depend on how much is kept. Must not know what
the rows are.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import case, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cfmessenger.data.tables import usage
from cfmessenger.errors import ProtocolError


class Quota(NamedTuple):
    """The most there may be; 0: no limit. `size` is in characters of JSON."""

    rows: int
    size: int


UNLIMITED = Quota(0, 0)


async def count(
    connection: AsyncConnection, owner: str, rows: int, size: int, quota: Quota
) -> None:
    """Count `rows` more, and `size` more characters of JSON; negative: less.

    Raises QUOTA_EXCEEDED, and then nothing is counted. Only what grows can be too
    much: whoever is above a limit may still delete.
    """
    if not rows and not size:
        return
    c = usage.c
    # Never below nothing, for what was there before it was counted is a guess.
    left = case((c.size + size < 0, 0), else_=c.size + size)
    change = (
        update(usage)
        .where(c.user_id == owner)
        .values(row_count=c.row_count + rows, size=left)
    )
    if rows > 0 and quota.rows:
        change = change.where(c.row_count + rows <= quota.rows)
    if size > 0 and quota.size:
        change = change.where(c.size + size <= quota.size)
    if (await connection.execute(change)).rowcount:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    first = dialect.insert(usage).values(user_id=owner, row_count=0, size=0)
    await connection.execute(first.on_conflict_do_nothing())
    if not (await connection.execute(change)).rowcount:
        raise ProtocolError("QUOTA_EXCEEDED")
