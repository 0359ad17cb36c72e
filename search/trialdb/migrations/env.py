"""Alembic's entry: runs the migrations on the connection that `versions.migrate` hands over."""

from __future__ import annotations

from alembic import context

from kdsearch.search.trialdb.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # all or nothing, on SQLite too
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
