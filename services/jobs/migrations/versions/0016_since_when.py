"""Jobs by since when they are in their status: counted through, it is read without the rows."""

from services.jobs.migrations import indexes

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    indexes.build("video_analysis_jobs", {"jobs_since": "(status, status_since, launched)"})
