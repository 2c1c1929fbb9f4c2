"""Adds whether a job's artifacts omit the session's personal data and hide faces."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN anonymous boolean NOT NULL DEFAULT false")
