"""Indexes sessions by their request ids."""

from services.jobs.migrations import indexes

revision = "0018b"
down_revision = "0018"

INDEXES = {"sessions_by_request": "(created_by, request_id) WHERE request_id IS NOT NULL"}


def upgrade() -> None:
    indexes.build("video_sessions", INDEXES, unique=True)
