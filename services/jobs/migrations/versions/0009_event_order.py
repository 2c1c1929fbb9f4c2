"""Keeps a job's events in the order of its transitions, for any order of transactions; adds the readers' positions.

A transaction can get its id first and then wait for a row that a younger transaction holds, as a bare UPDATE does.
Its event would sort before the event that it follows. The row therefore stores the position of the job's last event
(`event_xid`), and the next event is never placed below it. An event is never placed below its own transaction either,
so a reader below the oldest running transaction misses none.

Positions belong to one server's transactions. Import jobs into another server with `event_xid` 0 and without events.
"""

from alembic import op

revision = "0009"
down_revision = "0008b"


def upgrade() -> None:
    op.execute("ALTER TABLE video_analysis_jobs ADD COLUMN event_xid bigint NOT NULL DEFAULT 0")
    op.execute("""
        CREATE FUNCTION video_analysis_job_place() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.event_xid := greatest(NEW.event_xid, pg_current_xact_id()::text::bigint);
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER place_of_insert BEFORE INSERT ON video_analysis_jobs
        FOR EACH ROW EXECUTE FUNCTION video_analysis_job_place()
    """)
    op.execute("""
        CREATE TRIGGER place_of_transition BEFORE UPDATE ON video_analysis_jobs
        FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION video_analysis_job_place()
    """)
    op.execute("""
        CREATE OR REPLACE FUNCTION video_analysis_job_event() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO events (xid, job_id, session_id, from_status, to_status, failure_code, sample_fps,
                                include_frames)
            VALUES (NEW.event_xid, NEW.id, NEW.session_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status::text END,
                    NEW.status::text, NEW.failure_code, NEW.sample_fps, NEW.include_frames);
            RETURN NULL;
        END $$
    """)
    # Positions: `purged`, up to where events are deleted; `sqs`, up to where the relay has sent them.
    op.execute("""
        CREATE TABLE event_positions (
            name text PRIMARY KEY,
            xid bigint NOT NULL,
            id bigint NOT NULL,
            moved_at timestamptz NOT NULL DEFAULT now())
    """)
    op.execute("INSERT INTO event_positions (name, xid, id) VALUES ('purged', 0, 0)")
