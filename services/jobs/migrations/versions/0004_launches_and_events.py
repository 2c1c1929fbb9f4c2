"""Launches, the outbox, and the columns of a job's video. Constant defaults, so no table is rewritten."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE video_analysis_jobs
            ADD COLUMN failure_code text NOT NULL DEFAULT '',
            ADD COLUMN accelerator text NOT NULL DEFAULT 'auto',
            ADD COLUMN athlete_box jsonb,
            ADD COLUMN content_type text NOT NULL DEFAULT '',
            ADD COLUMN content_length bigint NOT NULL DEFAULT 0,
            ADD COLUMN etag text NOT NULL DEFAULT '',
            ADD COLUMN version_id text NOT NULL DEFAULT '',
            ADD COLUMN sha256 text NOT NULL DEFAULT '',
            ADD COLUMN created_by text NOT NULL DEFAULT '',
            ADD COLUMN request_id uuid,
            ADD COLUMN results_stage text,
            ADD COLUMN artifacts jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN launch_count integer NOT NULL DEFAULT 0,
            ADD COLUMN memory_factor double precision NOT NULL DEFAULT 1,
            ADD COLUMN not_before timestamptz,
            ADD COLUMN version bigint NOT NULL DEFAULT 1,
            ADD COLUMN queued_at timestamptz,
            ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now()
    """)
    op.execute("""
        CREATE TABLE launches (
            job_id uuid NOT NULL REFERENCES video_analysis_jobs (id),
            launch_no integer NOT NULL CHECK (launch_no > 0),
            cluster text NOT NULL,
            memory_factor double precision NOT NULL DEFAULT 1,
            kubernetes_uid text NOT NULL DEFAULT '',
            placed_on text NOT NULL DEFAULT '',
            placement_reason text NOT NULL DEFAULT '',
            pod_name text NOT NULL DEFAULT '',
            pod_uid text NOT NULL DEFAULT '',
            lease_hash bytea,
            lease_expires_at timestamptz,
            ending text NOT NULL DEFAULT '',
            ending_message text NOT NULL DEFAULT '',
            opened_at timestamptz NOT NULL DEFAULT now(),
            offered_at timestamptz NOT NULL DEFAULT now(),
            confirmed_at timestamptz,
            started_at timestamptz,
            ended_at timestamptz,
            PRIMARY KEY (job_id, launch_no),
            CHECK ((ending = '') = (ended_at IS NULL)),
            CHECK ((started_at IS NULL) = (lease_hash IS NULL)))
    """)
    op.execute("CREATE UNIQUE INDEX launches_one_open ON launches (job_id) WHERE ended_at IS NULL")
    op.execute("CREATE INDEX launches_open_by_cluster ON launches (cluster, job_id) WHERE ended_at IS NULL")
    op.execute("CREATE INDEX launches_lease ON launches (lease_expires_at) WHERE ended_at IS NULL")
    op.execute("""
        CREATE TABLE events (
            xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
            id bigint GENERATED ALWAYS AS IDENTITY,
            job_id uuid NOT NULL,
            session_id uuid NOT NULL,
            from_status text,
            to_status text NOT NULL,
            failure_code text NOT NULL,
            sample_fps integer NOT NULL,
            include_frames boolean NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (xid, id))
    """)
    _triggers()


def _triggers() -> None:
    # Every change of a status, also by an operator's UPDATE, writes an event, a time and a version.
    op.execute("""
        CREATE FUNCTION video_analysis_job_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                NEW.version := OLD.version + 1;
                NEW.updated_at := clock_timestamp();
            END IF;
            IF NEW.status = 'queued' AND (TG_OP = 'INSERT' OR OLD.status <> 'queued') THEN
                NEW.queued_at := clock_timestamp();
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION video_analysis_job_event() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO events (job_id, session_id, from_status, to_status, failure_code, sample_fps, include_frames)
            VALUES (NEW.id, NEW.session_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status::text END, NEW.status::text,
                    NEW.failure_code, NEW.sample_fps, NEW.include_frames);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON video_analysis_jobs
        FOR EACH ROW EXECUTE FUNCTION video_analysis_job_stamp()
    """)
    op.execute("""
        CREATE TRIGGER event_of_insert AFTER INSERT ON video_analysis_jobs
        FOR EACH ROW EXECUTE FUNCTION video_analysis_job_event()
    """)
    op.execute("""
        CREATE TRIGGER event_of_transition AFTER UPDATE ON video_analysis_jobs
        FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION video_analysis_job_event()
    """)
