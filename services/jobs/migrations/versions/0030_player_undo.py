"""Adds the end of the time in which the deletion of a player can be undone, and the sessions that named the player."""

from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.execute("ALTER TABLE players ADD COLUMN undo_until timestamptz, ADD COLUMN undo_sessions uuid[]")
