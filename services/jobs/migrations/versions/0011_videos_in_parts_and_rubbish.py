"""Videos in parts; jobs that are deleted one by one; and what S3 still holds of jobs that need it no more.

`sweep_at` is set by a trigger, so that nothing is forgotten in S3 whoever deletes, cancels or gives up a job.
"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE video_analysis_jobs
            ADD COLUMN part_bytes bigint NOT NULL DEFAULT 0,
            ADD COLUMN upload_id text NOT NULL DEFAULT '',
            ADD COLUMN parts_sha256 text NOT NULL DEFAULT '',
            ADD COLUMN deleted_at timestamptz,
            ADD COLUMN sweep_at timestamptz,
            ADD COLUMN cleared_at timestamptz
    """)
    # A failed upload may be repaired for a day. One that is never completed has had its time.
    op.execute("""
        CREATE FUNCTION video_analysis_job_rubbish() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.sweep_at := clock_timestamp() + CASE
                WHEN NEW.deleted_at IS NULL AND NEW.status = 'failed' AND NEW.failure_code <> 'UPLOAD_EXPIRED'
                THEN interval '1 day' ELSE interval '0' END;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER rubbish BEFORE UPDATE ON video_analysis_jobs FOR EACH ROW
        WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
              OR OLD.status <> NEW.status AND NEW.status IN ('failed', 'cancelled') AND NEW.etag = '')
        EXECUTE FUNCTION video_analysis_job_rubbish()
    """)
