"""The tables after the newest migration, for SQLAlchemy. Runbooks name `video_sessions` and `video_analysis_jobs`."""

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
    # The user who last made, changed or deleted it: a person's subject, or `service:NAME for OWNER`.
    sa.Column("acted_by", sa.Text),
    sa.Column("title", sa.Text),
    sa.Column("player_ids", pg.ARRAY(sa.Text)),
    sa.Column("notes", sa.Text),
    sa.Column("discipline", sa.Text),
    sa.Column("camera_view", sa.Text),
    sa.Column("created_at", _time),
    sa.Column("updated_at", _time),
    # Set for a deleted session: its row and its jobs are kept, and every call reads them as not found.
    sa.Column("deleted_at", _time),
    # Until then the deletion can be undone, and nothing is removed; null: it is final.
    sa.Column("undo_until", _time),
    sa.Column("request_id", _uuid),
    # SHA-256 of the fields of the request that made the session: the fields themselves may change.
    sa.Column("request_sha256", sa.Text),
)

players = sa.Table(
    "players",
    metadata,
    # A text, as `video_sessions.player_ids` holds it.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner_type", sa.Text),
    sa.Column("owner_id", sa.Text),
    sa.Column("created_by", sa.Text),
    sa.Column("name", sa.Text),
    # The name as it is sorted and searched: normalized, in small letters.
    sa.Column("name_key", sa.Text),
    # 0: not given.
    sa.Column("height_cm", sa.Integer),
    sa.Column("birth_year", sa.Integer),
    # left or right; empty: not given.
    sa.Column("hand", sa.Text),
    sa.Column("notes", sa.Text),
    sa.Column("created_at", _time),
    sa.Column("updated_at", _time),
    sa.Column("request_id", _uuid),
    sa.Column("request_sha256", sa.Text),
    # Until then the deletion can be undone; null: the player is not deleted. The sessions named the player before.
    sa.Column("undo_until", _time),
    sa.Column("undo_sessions", pg.ARRAY(_uuid)),
)

shares = sa.Table(
    "shares",
    metadata,
    sa.Column("id", _uuid, primary_key=True),
    sa.Column("owner_type", sa.Text),
    sa.Column("owner_id", sa.Text),
    sa.Column("created_by", sa.Text),
    # SHA-256 of the secret: a reader of the database cannot read the reports.
    sa.Column("secret_hash", sa.LargeBinary),
    sa.Column("job_ids", pg.ARRAY(_uuid)),
    sa.Column("with_names", sa.Boolean),
    sa.Column("created_at", _time),
    sa.Column("expires_at", _time),
    sa.Column("request_id", _uuid),
    sa.Column("request_sha256", sa.Text),
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
    # Empty: the session's.
    sa.Column("discipline", sa.Text),
    # Frames a second at which the camera recorded; 0: not stated.
    sa.Column("capture_fps", sa.Float),
    # The moments that the client gave: a list of {name, time_seconds}.
    sa.Column("events", pg.JSONB),
    sa.Column("s3_bucket", sa.Text),
    sa.Column("s3_key", sa.Text),
    sa.Column("content_type", sa.Text),
    sa.Column("content_length", sa.BigInteger),
    sa.Column("etag", sa.Text),
    sa.Column("version_id", sa.Text),
    sa.Column("sha256", sa.Text),
    # For a multipart upload: bytes of each part but the last, S3's upload id, SHA-256 of the parts' SHA-256s.
    sa.Column("part_bytes", sa.BigInteger),
    sa.Column("upload_id", sa.Text),
    sa.Column("parts_sha256", sa.Text),
    sa.Column("sqs_message_id", sa.Text),
    sa.Column("created_by", sa.Text),
    # The user who last made, changed or deleted it: a person's subject, or `service:NAME for OWNER`.
    sa.Column("acted_by", sa.Text),
    sa.Column("request_id", _uuid),
    # The job whose video this job analyses again.
    sa.Column("source_job_id", _uuid),
    sa.Column("results", pg.JSONB),
    sa.Column("results_stage", sa.Text),
    # A value of levels.Level; also empty for results from before the column.
    sa.Column("level", sa.Text),
    sa.Column("artifacts", pg.JSONB),
    sa.Column("launch_count", sa.Integer),
    sa.Column("memory_factor", sa.Float),
    # The retry policy ignores launches up to this number: they ended before the last RetryJob.
    sa.Column("retries_from_launch", sa.Integer),
    sa.Column("not_before", _time),
    # Key of the fair queue: `coach/<id>` or `org/<id>`; set by a trigger.
    sa.Column("owner", sa.Text),
    # Whether the job has an open launch; set by a trigger.
    sa.Column("launched", sa.Boolean),
    # Set by CancelJob; with an open launch the job is being cancelled.
    sa.Column("cancel_requested_at", _time),
    # Set for a deleted job: its row is kept, and every call reads it as not found.
    sa.Column("deleted_at", _time),
    # As of a session.
    sa.Column("undo_until", _time),
    # When the cleanup of its S3 objects is due; set by a trigger.
    sa.Column("sweep_at", _time),
    # When its cleanup was claimed first; from then on jobs accepts no video for it.
    sa.Column("cleared_at", _time),
    # Counted up by a trigger at each update; WatchJob compares it.
    sa.Column("version", sa.BigInteger),
    # W3C traceparent of the call that created the job; empty if that call was not traced.
    sa.Column("trace_parent", sa.Text),
    # When the job entered its status; set by a trigger.
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
    # SHA-256 of the lease: a reader of the database cannot call as the pod.
    sa.Column("lease_hash", sa.LargeBinary),
    sa.Column("lease_expires_at", _time),
    # A value of records.Ending; empty while the launch is open.
    sa.Column("ending", sa.Text),
    sa.Column("ending_message", sa.Text),
    sa.Column("opened_at", _time),
    # When the launch was last handed to a controller.
    sa.Column("offered_at", _time),
    sa.Column("confirmed_at", _time),
    sa.Column("started_at", _time),
    sa.Column("ended_at", _time),
)
