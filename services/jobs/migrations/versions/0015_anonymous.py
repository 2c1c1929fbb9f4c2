"""Whether a job's files leave out what its session says of people, and show no faces."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN anonymous boolean NOT NULL DEFAULT false")
