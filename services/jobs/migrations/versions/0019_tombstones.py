"""Removes what people wrote, and results, from rows that are deleted already, and indexes those rows."""

from alembic import op

from services.jobs.migrations import indexes

revision = "0019"
down_revision = "0018b"

SESSIONS = {"sessions_deleted": "(deleted_at) WHERE deleted_at IS NOT NULL"}
# Without the jobs whose objects still lie in S3.
JOBS = {"jobs_deleted": "(deleted_at) WHERE deleted_at IS NOT NULL AND sweep_at IS NULL"}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("""
            UPDATE video_sessions SET title = '', notes = '', player_ids = '{}'
            WHERE deleted_at IS NOT NULL AND (title, notes, player_ids) <> ('', '', '{}')
        """)
        op.execute("""
            UPDATE video_analysis_jobs SET results = NULL, artifacts = '[]', athlete_box = NULL, error_message = ''
            WHERE deleted_at IS NOT NULL
              AND (results IS NOT NULL OR artifacts <> '[]' OR athlete_box IS NOT NULL OR error_message <> '')
        """)
    indexes.build("video_sessions", SESSIONS)
    indexes.build("video_analysis_jobs", JOBS)
