"""Multipart uploads, deletion of single jobs, and the cleanup of S3 objects that no job needs.

A trigger sets `sweep_at`, so that each deletion, cancellation and failed upload leads to a cleanup.
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
    # A failed upload can be repaired for a day; an expired one cannot.
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
