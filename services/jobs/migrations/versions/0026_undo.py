"""Adds the end of the time in which the deletion of a job can be undone; until then cleanup leaves its S3 objects.

A job that is brought back has its cleanup due as if it had just ended.
"""

from alembic import op

revision = "0026"
down_revision = "0025b"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN undo_until timestamptz")
    op.execute("""
        CREATE OR REPLACE FUNCTION video_analysis_job_rubbish() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.sweep_at := CASE
                WHEN NEW.deleted_at IS NOT NULL THEN coalesce(NEW.undo_until, clock_timestamp())
                WHEN NEW.etag <> '' THEN clock_timestamp() + interval '15 minutes'
                WHEN NEW.status = 'failed' AND NEW.failure_code <> 'UPLOAD_EXPIRED'
                    THEN clock_timestamp() + interval '1 day'
                ELSE clock_timestamp() END;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE OR REPLACE TRIGGER rubbish BEFORE UPDATE ON video_analysis_jobs FOR EACH ROW
        WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)
              OR OLD.status <> NEW.status AND (
                  NEW.status IN ('failed', 'cancelled') AND NEW.etag = ''
                  OR NEW.status IN ('done', 'failed', 'cancelled')
                     AND (NEW.launch_count > 0 OR NEW.part_bytes > 0)))
        EXECUTE FUNCTION video_analysis_job_rubbish()
    """)
