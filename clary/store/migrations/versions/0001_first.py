"""The first tables; a new database gets them straight from the metadata."""

from alembic import op

from clary.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
