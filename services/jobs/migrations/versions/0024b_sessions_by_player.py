"""Indexes sessions by their players."""

from services.jobs.migrations import indexes

revision = "0024b"
down_revision = "0024"

INDEXES = {"sessions_by_player": "USING gin (player_ids) WHERE deleted_at IS NULL"}


def upgrade() -> None:
    indexes.build("video_sessions", INDEXES)
