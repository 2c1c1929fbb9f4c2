"""Indexes the deletions that can still be undone."""

from services.jobs.migrations import indexes

revision = "0026b"
down_revision = "0026"

COLUMNS = "(undo_until) WHERE undo_until IS NOT NULL"


def upgrade() -> None:
    indexes.build("video_sessions", {"sessions_undoable": COLUMNS})
    indexes.build("video_analysis_jobs", {"jobs_undoable": COLUMNS})
