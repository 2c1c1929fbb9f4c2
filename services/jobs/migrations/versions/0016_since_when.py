"""Indexes jobs by status and its start, so that the gauges count them without reading rows."""

from services.jobs.migrations import indexes

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    indexes.build("video_analysis_jobs", {"jobs_since": "(status, status_since, launched)"})
