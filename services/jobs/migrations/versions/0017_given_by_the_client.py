"""Adds what a client states of a video: its own discipline, the camera's frame rate, moments of the action."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE video_analysis_jobs
            ADD COLUMN discipline text NOT NULL DEFAULT '',
            ADD COLUMN capture_fps double precision NOT NULL DEFAULT 0,
            ADD COLUMN events jsonb NOT NULL DEFAULT '[]'
    """)
