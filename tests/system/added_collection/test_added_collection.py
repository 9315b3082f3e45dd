"""A collection more: a struct, a table and a registration; all else follows from them.

`EDITS` and `MIGRATION` are all that it takes. Whoever has to touch another file for a
collection has found a list that is kept by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cfmessenger.data.tables import HEAD
from tests.system.added_type import tree

NEXT = f"{int(HEAD) + 1:04}"

STRUCT = """
class Note(Row):
    \"\"\"Something to remember.\"\"\"

    owner_id: str
    text: Annotated[
        str, Meta(min_length=1, max_length=50, description="must be 1-50 characters")
    ]
    done: bool
    updated_at: Milliseconds


COLLECTIONS = {
"""
REGISTERED = """
        Collection(
            name="notes",
            row=Note,
            table=tables.notes,
            owner="owner_id",
            creates=("text",),
            initial={"done": False},
            changes=("text", "done"),
            deletes=True,
            sort="-updatedAt",
        ),
        Collection(
            name="orders",
"""
TABLE = """
notes = Table(
    "notes",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner_id", ID, ForeignKey("users.id"), nullable=False),
    Column("text", TEXT, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

idempotency_keys = Table(
"""
EXAMPLE = """
    "notes": {
        "id": "0d1f6b6e-0f5b-4a53-9a86-7a1f0f7c2b12",
        "ownerId": "user_1",
        "text": "Milk",
        "done": False,
        "updatedAt": NOW,
    },
    "orders": {
"""
MIGRATION = f"""\"\"\"Notes.\"\"\"

import sqlalchemy as sa
from alembic import op

from cfmessenger.data.tables import ID, TEXT

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("owner_id", ID, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("notes")
"""
EDITS = {
    "cfmessenger/data/registry.py": [
        ("\nCOLLECTIONS = {\n", STRUCT),
        ('\n        Collection(\n            name="orders",\n', REGISTERED),
    ],
    "cfmessenger/data/tables.py": [
        (f'HEAD = "{HEAD}"', f'HEAD = "{NEXT}"'),
        ("\nidempotency_keys = Table(\n", TABLE),
    ],
    "gateway/api/docs/examples.py": [('\n    "orders": {\n', EXAMPLE)],
}
MORE = {f"cfmessenger/data/migrations/versions/v{NEXT}_notes.py": MIGRATION}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree.grow(tmp_path_factory.mktemp("tree"), EDITS, MORE)


def test_it_is_made_listed_changed_limited_and_described(
    copy: Path, valkey_url: str, new_database: Callable[[], str]
) -> None:
    walk = "tests.system.added_collection.walk"
    ran = tree.run(copy, "-m", walk, valkey_url, new_database())
    assert ran.returncode == 0, ran.stdout + ran.stderr
