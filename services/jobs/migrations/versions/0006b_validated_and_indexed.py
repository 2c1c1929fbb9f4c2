"""Validates the checks of 0006 for all rows and builds indexes, without blocking writers."""

from alembic import op

from services.jobs.migrations import indexes

revision = "0006b"
down_revision = "0006"

CHECKS = ("job_status_is_current", "job_progress_in_range", "job_done_is_whole")
INDEXES = {
    "jobs_by_session": "(session_id, created_at DESC, id DESC)",
    "jobs_by_age": "(created_at DESC, id DESC)",
    "jobs_waiting": "(queued_at, id) WHERE status = 'queued'",
    "jobs_by_status": "(status, created_at)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name in CHECKS:
            op.execute(f"ALTER TABLE video_analysis_jobs VALIDATE CONSTRAINT {name}")
    indexes.build("video_analysis_jobs", INDEXES)
    by_request = {"jobs_by_request": "(created_by, request_id) WHERE request_id IS NOT NULL"}
    indexes.build("video_analysis_jobs", by_request, unique=True)
    indexes.build("video_sessions", {"sessions_by_owner": "(owner_type, owner_id, created_at DESC)"})
