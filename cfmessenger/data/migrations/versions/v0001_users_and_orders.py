"""Users, orders, and the keys that make a retried POST one row."""

import sqlalchemy as sa
from alembic import op

from cfmessenger.data.tables import ID, TEXT

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "users",
        sa.Column("id", ID, primary_key=True),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("avatar_id", TEXT, nullable=False),
        sa.Column("is_ai_bot", sa.Boolean, nullable=False),
        sa.Column("personal_message", TEXT),
        sa.Column("persona", TEXT),
        sa.Column("bot_archetype", TEXT),
        sa.Column("bot_style", TEXT),
        sa.Column("own", sa.Boolean, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("id", ID, primary_key=True),
        sa.Column("owner_id", ID, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("items", sa.JSON, nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("orders_by_owner", "orders", ["owner_id", "created_at", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", ID, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """To nothing."""
    for table in ("idempotency_keys", "orders", "users"):
        op.drop_table(table)
