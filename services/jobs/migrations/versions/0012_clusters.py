"""When each cluster was last heard of: a launch that no pod has started has no lease that could run out."""

from alembic import op

revision = "0012"
down_revision = "0011b"


def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS clusters (name text PRIMARY KEY, seen_at timestamptz NOT NULL)")
    op.execute("""
        INSERT INTO clusters SELECT DISTINCT cluster, clock_timestamp() FROM launches WHERE ended_at IS NULL
        ON CONFLICT DO NOTHING
    """)
