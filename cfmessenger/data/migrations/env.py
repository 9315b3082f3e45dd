"""Runs the versions on the connection and in the transaction that `schema` opened."""

from alembic import context

from cfmessenger.data.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
