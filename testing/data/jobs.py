"""Jobs and launches as records, for tests of pure parts: each with plausible columns, of which a test sets its own."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.jobs.domain.records import Accelerator, Job, Launch, Video
from services.jobs.domain.states import Status

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
JOB_ID, SESSION_ID = UUID(int=1), UUID(int=2)


def video(**columns: Any) -> Video:
    """A verified video of ten bytes."""
    values: dict[str, Any] = {
        "s3_bucket": "videos", "s3_key": "k/original.mp4", "content_type": "video/mp4", "content_length": 10,
        "etag": "abc", "version_id": "", "sha256": "", "part_bytes": 0, "upload_id": "", "parts_sha256": "",
    }  # fmt: skip
    return Video(**(values | columns))


def job(**columns: Any) -> Job:
    """A queued job."""
    values: dict[str, Any] = {
        "id": JOB_ID, "session_id": SESSION_ID, "status": Status.QUEUED, "stage": "QUEUED", "progress_pct": 0,
        "failure_code": "", "error_message": "", "sample_fps": 10, "include_frames": False, "deep_enabled": True,
        "anonymous": False, "accelerator": Accelerator.AUTO, "athlete_box": None, "video": video(),
        "discipline": "", "capture_fps": 0.0, "events": (),
        "sqs_message_id": None, "source_job_id": None, "results": None, "results_stage": None, "artifacts": (),
        "launch_count": 0, "memory_factor": 1.0, "retries_from_launch": 0, "owner": "coach/coach-1",
        "acted_by": "coach-1",
        "has_open_launch": False, "version": 1, "trace_parent": "", "not_before": None, "cancel_requested_at": None,
        "cleared_at": None, "is_deleted": False, "status_since": NOW, "created_at": NOW, "queued_at": NOW,
        "started_at": None, "completed_at": None, "updated_at": NOW,
    }  # fmt: skip
    return Job(**(values | columns))


def launch(**columns: Any) -> Launch:
    """A launch that was handed to a controller and not confirmed yet."""
    values: dict[str, Any] = {
        "job_id": JOB_ID, "launch_no": 1, "cluster": "c1", "memory_factor": 1.0, "kubernetes_uid": "",
        "placed_on": None, "placement_reason": "", "pod_name": "", "pod_uid": "", "lease_hash": None,
        "lease_expires_at": None, "ending": None, "ending_message": "", "opened_at": NOW, "confirmed_at": None,
        "started_at": None, "ended_at": None,
    }  # fmt: skip
    return Launch(**(values | columns))
