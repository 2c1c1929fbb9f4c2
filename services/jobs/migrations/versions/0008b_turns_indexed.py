"""Sets the owner of jobs that are not final, and indexes the fair queue."""

from alembic import op

from services.jobs.migrations import indexes

revision = "0008b"
down_revision = "0008"

INDEXES = {
    # Waiting jobs by owner, the oldest of each owner first.
    "jobs_in_turn": "(owner, queued_at, id) WHERE status = 'queued' AND NOT launched",
    "jobs_launched": "(owner) WHERE launched",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("""
            UPDATE video_analysis_jobs SET owner = owner_type || '/' || owner_id FROM video_sessions
            WHERE video_sessions.id = session_id AND owner = ''
              AND status IN ('queued', 'quick_running', 'quick_done', 'deep_running')
        """)
    indexes.build("video_analysis_jobs", INDEXES)
