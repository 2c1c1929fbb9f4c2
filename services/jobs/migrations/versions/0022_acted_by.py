"""Records the user who last made, changed or deleted a session: a service acts for an owner."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("ALTER TABLE video_sessions ADD COLUMN acted_by text NOT NULL DEFAULT ''")
