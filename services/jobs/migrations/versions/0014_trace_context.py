"""Adds the trace context of a job, which every program continues."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN trace_parent text NOT NULL DEFAULT ''")
