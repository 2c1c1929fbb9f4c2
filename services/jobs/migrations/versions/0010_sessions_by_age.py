"""The list of all sessions, newest first, as a superuser reads it."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_by_age ON video_sessions (created_at DESC, id DESC)
        """)
