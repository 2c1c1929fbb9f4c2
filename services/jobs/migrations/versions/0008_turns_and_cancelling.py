"""Columns for the fair queue and cancellation: a job's owner, whether a launch is open, when cancelling was requested.

Triggers keep the first two correct for every writer, including an older program.
"""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE video_analysis_jobs
            ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT '',
            ADD COLUMN launched boolean NOT NULL DEFAULT false,
            ADD COLUMN cancel_requested_at timestamptz
    """)
    _triggers()
    # Creating the trigger locks `launches`, so no launch opens or ends during this update.
    op.execute("""
        UPDATE video_analysis_jobs SET launched = true FROM launches
        WHERE launches.job_id = video_analysis_jobs.id AND launches.ended_at IS NULL
    """)


def _triggers() -> None:
    op.execute("""
        CREATE OR REPLACE FUNCTION video_analysis_job_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                -- That a launch has ended is no news of the job; what follows from it is.
                IF NEW.launched = OLD.launched OR NEW.launch_count <> OLD.launch_count THEN
                    NEW.version := OLD.version + 1;
                    NEW.updated_at := clock_timestamp();
                END IF;
                -- Brought back by hand, it is a job like any other.
                IF OLD.status = 'cancelled' AND NEW.status <> 'cancelled' THEN
                    NEW.cancel_requested_at := NULL;
                END IF;
            END IF;
            IF NEW.status = 'queued' AND (TG_OP = 'INSERT' OR OLD.status <> 'queued') THEN
                NEW.queued_at := clock_timestamp();
            END IF;
            IF NEW.owner = '' AND (TG_OP = 'INSERT' OR NEW.status = 'queued') THEN
                SELECT owner_type || '/' || owner_id INTO NEW.owner FROM video_sessions WHERE id = NEW.session_id;
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION launch_opened_or_ended() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            is_open boolean := TG_OP <> 'DELETE' AND NEW.ended_at IS NULL;
        BEGIN
            UPDATE video_analysis_jobs SET launched = is_open
            WHERE id = coalesce(NEW.job_id, OLD.job_id) AND launched <> is_open;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER opened AFTER INSERT ON launches
        FOR EACH ROW WHEN (NEW.ended_at IS NULL) EXECUTE FUNCTION launch_opened_or_ended()
    """)
    op.execute("""
        CREATE TRIGGER ended AFTER UPDATE OF ended_at ON launches
        FOR EACH ROW WHEN (OLD.ended_at IS DISTINCT FROM NEW.ended_at) EXECUTE FUNCTION launch_opened_or_ended()
    """)
    op.execute("""
        CREATE TRIGGER deleted AFTER DELETE ON launches
        FOR EACH ROW WHEN (OLD.ended_at IS NULL) EXECUTE FUNCTION launch_opened_or_ended()
    """)
