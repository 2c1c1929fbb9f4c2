"""The schema before two-phase uploads: new jobs are queued."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TYPE video_analysis_job_status AS ENUM (
            'queued', 'quick_running', 'quick_done', 'deep_running', 'done', 'processing', 'completed', 'failed')
    """)
    op.execute("""
        CREATE TABLE video_sessions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            owner_type text NOT NULL CHECK (owner_type IN ('coach', 'org')),
            owner_id text NOT NULL,
            created_by text NOT NULL,
            title text NOT NULL DEFAULT '',
            player_ids text[] NOT NULL DEFAULT '{}',
            notes text NOT NULL DEFAULT '',
            discipline text NOT NULL DEFAULT 'batting',
            camera_view text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now())
    """)
    op.execute("""
        CREATE TABLE video_analysis_jobs (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            session_id uuid NOT NULL REFERENCES video_sessions (id),
            status video_analysis_job_status NOT NULL DEFAULT 'queued',
            stage text NOT NULL DEFAULT 'QUEUED',
            progress_pct integer NOT NULL DEFAULT 0,
            error_message text NOT NULL DEFAULT '',
            sample_fps integer NOT NULL DEFAULT 10,
            include_frames boolean NOT NULL DEFAULT false,
            deep_enabled boolean NOT NULL DEFAULT true,
            s3_bucket text NOT NULL,
            s3_key text NOT NULL,
            sqs_message_id text,
            results jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            started_at timestamptz,
            completed_at timestamptz)
    """)
