"""Adds the end of the time in which the deletion of a session can be undone."""

from alembic import op

revision = "0025b"
down_revision = "0025"


def upgrade() -> None:
    op.execute("ALTER TABLE video_sessions ADD COLUMN undo_until timestamptz")
