"""Alembic's entry: run the revisions of this folder on the connection that start-up hands over."""

from alembic import context

from clary.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
