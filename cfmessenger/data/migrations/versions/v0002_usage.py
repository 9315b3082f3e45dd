"""What each owner keeps, which was not counted before."""

import sqlalchemy as sa
from alembic import op

from cfmessenger.data.tables import ID

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Counts what is there: to some characters a row, as it was never measured."""
    op.create_table(
        "usage",
        sa.Column("user_id", ID, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO usage (user_id, row_count, size) "
        "SELECT owner_id, count(*), sum(length(CAST(items AS TEXT)) + 200) "
        "FROM orders GROUP BY owner_id"
    )


def downgrade() -> None:
    """Nobody has a limit again."""
    op.drop_table("usage")
