"""Columns for deleted sessions, retried jobs and reanalysed videos. Constant defaults, so no table is rewritten."""

from alembic import op

revision = "0007"
down_revision = "0006b"


def upgrade() -> None:
    op.execute("ALTER TABLE video_sessions ADD COLUMN deleted_at timestamptz")
    op.execute("""
        ALTER TABLE video_analysis_jobs
            ADD COLUMN retries_from_launch integer NOT NULL DEFAULT 0,
            ADD COLUMN source_job_id uuid
    """)
