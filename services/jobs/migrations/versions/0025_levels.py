"""Adds the level of a job's report, so that a list reads no results."""

from alembic import op

revision = "0025"
down_revision = "0024b"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN level text NOT NULL DEFAULT ''")
