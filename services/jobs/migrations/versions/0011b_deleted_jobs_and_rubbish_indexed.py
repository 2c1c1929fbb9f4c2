"""Deletes the jobs of deleted sessions, and indexes cleanups."""

from alembic import op

from services.jobs.migrations import indexes

revision = "0011b"
down_revision = "0011"

INDEXES = {
    "jobs_rubbish": "(sweep_at) WHERE sweep_at IS NOT NULL",
    # In S3's order of keys.
    "jobs_by_key": '(s3_bucket, s3_key COLLATE "C", id)',
    "jobs_of_owner": "(owner) INCLUDE (content_length) WHERE deleted_at IS NULL",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("""
            UPDATE video_analysis_jobs SET deleted_at = video_sessions.deleted_at FROM video_sessions
            WHERE video_sessions.id = session_id AND video_sessions.deleted_at IS NOT NULL
              AND video_analysis_jobs.deleted_at IS NULL
        """)
    indexes.build("video_analysis_jobs", INDEXES)
