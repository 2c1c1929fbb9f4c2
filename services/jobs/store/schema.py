"""The tables as they are after the last migration. Two keep the names that operators have in their runbooks."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData()

job_status = pg.ENUM(
    "awaiting_upload",
    "queued",
    "quick_running",
    "quick_done",
    "deep_running",
    "done",
    "processing",
    "completed",
    "failed",
    "cancelled",
    name="video_analysis_job_status",
    create_type=False,
)

_uuid = pg.UUID(as_uuid=True)
_time = sa.DateTime(timezone=True)

sessions = sa.Table(
    "video_sessions",
    metadata,
    sa.Column("id", _uuid, primary_key=True),
    sa.Column("owner_type", sa.Text),
    sa.Column("owner_id", sa.Text),
    sa.Column("created_by", sa.Text),
    sa.Column("title", sa.Text),
    sa.Column("player_ids", pg.ARRAY(sa.Text)),
    sa.Column("notes", sa.Text),
    sa.Column("discipline", sa.Text),
    sa.Column("camera_view", sa.Text),
    sa.Column("created_at", _time),
    sa.Column("updated_at", _time),
    # A deleted session and its jobs are kept, and read as if they were not there.
    sa.Column("deleted_at", _time),
)

jobs = sa.Table(
    "video_analysis_jobs",
    metadata,
    sa.Column("id", _uuid, primary_key=True),
    sa.Column("session_id", _uuid, sa.ForeignKey("video_sessions.id")),
    sa.Column("status", job_status),
    sa.Column("stage", sa.Text),
    sa.Column("progress_pct", sa.Integer),
    sa.Column("failure_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("sample_fps", sa.Integer),
    sa.Column("include_frames", sa.Boolean),
    sa.Column("deep_enabled", sa.Boolean),
    sa.Column("anonymous", sa.Boolean),
    sa.Column("accelerator", sa.Text),
    sa.Column("athlete_box", pg.JSONB),
    sa.Column("s3_bucket", sa.Text),
    sa.Column("s3_key", sa.Text),
    sa.Column("content_type", sa.Text),
    sa.Column("content_length", sa.BigInteger),
    sa.Column("etag", sa.Text),
    sa.Column("version_id", sa.Text),
    sa.Column("sha256", sa.Text),
    # Of a video in parts: the length of each but the last, S3's name of the upload, the SHA-256 over their SHA-256s.
    sa.Column("part_bytes", sa.BigInteger),
    sa.Column("upload_id", sa.Text),
    sa.Column("parts_sha256", sa.Text),
    sa.Column("sqs_message_id", sa.Text),
    sa.Column("created_by", sa.Text),
    sa.Column("request_id", _uuid),
    # The job whose video this one analyses again.
    sa.Column("source_job_id", _uuid),
    sa.Column("results", pg.JSONB),
    sa.Column("results_stage", sa.Text),
    sa.Column("artifacts", pg.JSONB),
    sa.Column("launch_count", sa.Integer),
    sa.Column("memory_factor", sa.Float),
    # Launches up to this one count no more: somebody asked to try afresh.
    sa.Column("retries_from_launch", sa.Integer),
    sa.Column("not_before", _time),
    # Whose turn it counts as: `coach/<id>` or `org/<id>`; kept by a trigger.
    sa.Column("owner", sa.Text),
    # Whether a launch of it is open; kept by a trigger.
    sa.Column("launched", sa.Boolean),
    # With an open launch: it is being cancelled.
    sa.Column("cancel_requested_at", _time),
    # A deleted job is kept, and reads as if it were not there.
    sa.Column("deleted_at", _time),
    # When to look what S3 still holds of a job that needs it no more; set by a trigger.
    sa.Column("sweep_at", _time),
    # Since then nothing is accepted as its video.
    sa.Column("cleared_at", _time),
    # Counted up by the database at each update: what watchers compare.
    sa.Column("version", sa.BigInteger),
    # W3C's traceparent of the call that made it; empty where that was not traced.
    sa.Column("trace_parent", sa.Text),
    # Since when it is in its status; kept by a trigger.
    sa.Column("status_since", _time),
    sa.Column("created_at", _time),
    sa.Column("queued_at", _time),
    sa.Column("started_at", _time),
    sa.Column("completed_at", _time),
    sa.Column("updated_at", _time),
)

launches = sa.Table(
    "launches",
    metadata,
    sa.Column("job_id", _uuid, sa.ForeignKey("video_analysis_jobs.id"), primary_key=True),
    sa.Column("launch_no", sa.Integer, primary_key=True),
    sa.Column("cluster", sa.Text),
    sa.Column("memory_factor", sa.Float),
    sa.Column("kubernetes_uid", sa.Text),
    sa.Column("placed_on", sa.Text),
    sa.Column("placement_reason", sa.Text),
    sa.Column("pod_name", sa.Text),
    sa.Column("pod_uid", sa.Text),
    # SHA-256 of the secret: who reads the database still can't speak for a pod.
    sa.Column("lease_hash", sa.LargeBinary),
    sa.Column("lease_expires_at", _time),
    # A class of endings.py, or `succeeded`, `cancelled`; empty while the launch is open.
    sa.Column("ending", sa.Text),
    sa.Column("ending_message", sa.Text),
    sa.Column("opened_at", _time),
    # When it was last handed to a controller.
    sa.Column("offered_at", _time),
    sa.Column("confirmed_at", _time),
    sa.Column("started_at", _time),
    sa.Column("ended_at", _time),
)
