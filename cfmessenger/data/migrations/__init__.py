"""Alembic's environment and versions; `schema.migrate` runs them at start."""
