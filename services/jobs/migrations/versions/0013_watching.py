"""Adds `status_since` of each job, and the replica that exports the gauges of all jobs."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    # Existing jobs read the time of this migration; no row is rewritten.
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN status_since timestamptz NOT NULL DEFAULT now()")
    op.execute("""
        CREATE FUNCTION video_analysis_job_entered() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.status_since := clock_timestamp();
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER entered BEFORE UPDATE OF status ON video_analysis_jobs
        FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION video_analysis_job_entered()
    """)
    op.execute("""
        CREATE TABLE tellers (
            what text PRIMARY KEY, who uuid NOT NULL, until timestamptz NOT NULL
        )
    """)
