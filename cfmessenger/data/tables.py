"""The tables, as SQLAlchemy Core; `migrations/` brings a database to this shape.

Text compares by code point in both dialects, so that a sort means the same in both.
`revision` counts the changes of a row and is its ETag; it is not shown.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql

HEAD = "0002"
"""The newest migration, known here so that an up-to-date start need not load them."""

metadata = MetaData()

TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
ID = String(64).with_variant(postgresql.VARCHAR(64, collation="C"), "postgresql")

users = Table(
    "users",
    metadata,
    Column("id", ID, primary_key=True),
    Column("email", TEXT, nullable=False),
    Column("display_name", TEXT, nullable=False),
    Column("avatar_id", TEXT, nullable=False),
    Column("is_ai_bot", Boolean, nullable=False),
    Column("personal_message", TEXT),
    Column("persona", TEXT),
    Column("bot_archetype", TEXT),
    Column("bot_style", TEXT),
    # Once people have said what they are called, the seeded list no longer does.
    Column("own", Boolean, nullable=False, default=False, onupdate=True),
    # False: no longer in the seeded list. The row stays, for what refers to it.
    Column("listed", Boolean, nullable=False, default=True),
    Column("revision", BigInteger, nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner_id", ID, ForeignKey("users.id"), nullable=False),
    Column("items", JSON, nullable=False),
    Column("currency", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("orders_by_owner", "owner_id", "created_at", "id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", ID, ForeignKey("users.id"), primary_key=True),
    Column("key", TEXT, primary_key=True),
    # SHA-256 of the collection and what was sent, as it was understood.
    Column("digest", TEXT, nullable=False),
    Column("answer", TEXT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("idempotency_keys_by_age", "created_at"),
)

# What each owner keeps, counted in the transaction that changes it. A sum would read
# all rows at each change instead, and two changes at once would not see each other.
usage = Table(
    "usage",
    metadata,
    Column("user_id", ID, ForeignKey("users.id"), primary_key=True),
    Column("row_count", BigInteger, nullable=False),
    # Characters of their rows and of the answers to their idempotency keys, as JSON.
    Column("size", BigInteger, nullable=False),
)
