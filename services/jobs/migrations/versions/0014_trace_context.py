"""Where the trace of a job goes on, in whatever program takes it up."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN trace_parent text NOT NULL DEFAULT ''")
