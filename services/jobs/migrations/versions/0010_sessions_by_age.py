"""Indexes all sessions, newest first, for a superuser's list."""

from services.jobs.migrations import indexes

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    indexes.build("video_sessions", {"sessions_by_age": "(created_at DESC, id DESC)"})
