"""Rows from before two-phase uploads: `completed` becomes done, `processing` becomes queued, `queued` stays."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
        UPDATE video_analysis_jobs SET status = 'done', stage = 'DONE', progress_pct = 100,
            completed_at = coalesce(completed_at, now()) WHERE status IN ('completed', 'done')
    """)
    op.execute("""
        UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED', progress_pct = 0 WHERE status = 'processing'
    """)
    # A job that ran under the old program has no lease.
    op.execute("""
        UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED', progress_pct = 0
        WHERE status IN ('quick_running', 'quick_done', 'deep_running')
    """)
    op.execute("UPDATE video_analysis_jobs SET queued_at = created_at WHERE status = 'queued' AND queued_at IS NULL")
    op.execute("UPDATE video_analysis_jobs SET results_stage = 'deep' WHERE status = 'done' AND results IS NOT NULL")
