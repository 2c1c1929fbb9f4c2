"""Adds the owner's notes about a player."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.execute("ALTER TABLE players ADD COLUMN notes text NOT NULL DEFAULT ''")
