"""Sessions can be deleted, jobs tried afresh, and a video analysed again. Constant defaults: no table is rewritten."""

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
