"""Records the same of a job, in a transaction of its own: a call locks a job before its session."""

from alembic import op

revision = "0022b"
down_revision = "0022"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN acted_by text NOT NULL DEFAULT ''")
