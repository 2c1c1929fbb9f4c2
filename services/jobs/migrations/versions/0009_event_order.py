"""The events of one job in the order of its changes, whatever the order of transactions; and who stands where.

A transaction may get its id, write elsewhere, and only then wait for a job's row that a younger one holds: a bare
UPDATE does so by itself. Its event would sort before the one that it follows. So an event's position is never below
that of the job's event before it, which the row remembers. It stays true that at a position come only events of
transactions that are no younger, so that a reader below the oldest running one misses none.

Positions are of this server's transactions: into another server jobs go with `event_xid` 0, and without events.
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
    # `purged`: up to where old events are deleted. `sqs`: up to where the relay has sent.
    op.execute("""
        CREATE TABLE event_positions (
            name text PRIMARY KEY,
            xid bigint NOT NULL,
            id bigint NOT NULL,
            moved_at timestamptz NOT NULL DEFAULT now())
    """)
    op.execute("INSERT INTO event_positions (name, xid, id) VALUES ('purged', 0, 0)")
