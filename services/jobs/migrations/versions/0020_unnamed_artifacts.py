"""The cleanup of artifacts that no result names becomes due when a job is final after a launch.

It waits a quarter of an hour, for readers of the quick report and uploads in progress.
"""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        CREATE OR REPLACE FUNCTION video_analysis_job_rubbish() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.sweep_at := clock_timestamp() + CASE
                WHEN NEW.deleted_at IS NOT NULL THEN interval '0'
                WHEN NEW.etag <> '' THEN interval '15 minutes'
                WHEN NEW.status = 'failed' AND NEW.failure_code <> 'UPLOAD_EXPIRED' THEN interval '1 day'
                ELSE interval '0' END;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE OR REPLACE TRIGGER rubbish BEFORE UPDATE ON video_analysis_jobs FOR EACH ROW
        WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
              OR OLD.status <> NEW.status AND (
                  NEW.status IN ('failed', 'cancelled') AND NEW.etag = ''
                  OR NEW.status IN ('done', 'failed', 'cancelled') AND NEW.launch_count > 0))
        EXECUTE FUNCTION video_analysis_job_rubbish()
    """)
