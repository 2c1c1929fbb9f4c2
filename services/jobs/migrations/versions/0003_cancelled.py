"""Jobs can be cancelled. The label has its own migration: it cannot be used in the transaction that adds it."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TYPE video_analysis_job_status ADD VALUE IF NOT EXISTS 'cancelled'")
