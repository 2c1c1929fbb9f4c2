"""Two-phase uploads: a job exists before its video arrives, and cannot be claimed until then."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TYPE video_analysis_job_status ADD VALUE IF NOT EXISTS 'awaiting_upload' BEFORE 'queued'")
