"""Adds the request ids of sessions, so that a repeated CreateSession makes one session."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE video_sessions ADD COLUMN request_id uuid, ADD COLUMN request_sha256 text NOT NULL DEFAULT ''
    """)
