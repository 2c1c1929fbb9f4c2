"""Records when each cluster's controller last called, because an unstarted launch has no lease that could expire."""

from alembic import op

revision = "0012"
down_revision = "0011b"


def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS clusters (name text PRIMARY KEY, seen_at timestamptz NOT NULL)")
    op.execute("""
        INSERT INTO clusters SELECT DISTINCT cluster, clock_timestamp() FROM launches WHERE ended_at IS NULL
        ON CONFLICT DO NOTHING
    """)
