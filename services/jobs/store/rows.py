"""Rows of the tables as records: one function a record. Rows of other queries are read beside their SQL.

Each function names its columns, because a newer migration may have added others before this program is replaced.
"""

from datetime import datetime
from typing import Any

from services.jobs.domain.records import (
    Accelerator,
    Artifact,
    AssignedLaunch,
    Ending,
    Event,
    GivenEvent,
    Job,
    Launch,
    Owner,
    OwnerType,
    Player,
    Session,
    Video,
)
from services.jobs.domain.states import ResultStage, Status
from services.jobs.store.database import Row

# An enum's own lookup takes three times as long.
_STATUSES = {status.value: status for status in Status}
_STAGES = {stage.value: stage for stage in ResultStage}
_ACCELERATORS = {accelerator.value: accelerator for accelerator in Accelerator}
_ENDINGS = {ending.value: ending for ending in Ending}
_OWNER_TYPES = {kind.value: kind for kind in OwnerType}
# Artifacts are JSON in which a stage has its name in the proto.
_STAGES_OF_ARTIFACTS = {f"STAGE_{stage.name}": stage for stage in ResultStage}


def read_job(row: Row) -> Job:
    """A row of `video_analysis_jobs`, with or without `results`."""
    return Job(
        id=row["id"],
        session_id=row["session_id"],
        status=_STATUSES[row["status"]],
        stage=row["stage"],
        progress_pct=row["progress_pct"],
        failure_code=row["failure_code"],
        error_message=row["error_message"],
        sample_fps=row["sample_fps"],
        include_frames=row["include_frames"],
        deep_enabled=row["deep_enabled"],
        anonymous=row["anonymous"],
        accelerator=_ACCELERATORS[row["accelerator"]],
        athlete_box=row["athlete_box"],
        discipline=row["discipline"],
        capture_fps=row["capture_fps"],
        events=tuple([GivenEvent(event["name"], event["time_seconds"]) for event in row["events"]]),
        video=Video(
            s3_bucket=row["s3_bucket"],
            s3_key=row["s3_key"],
            content_type=row["content_type"],
            content_length=row["content_length"],
            etag=row["etag"],
            version_id=row["version_id"],
            sha256=row["sha256"],
            part_bytes=row["part_bytes"],
            upload_id=row["upload_id"],
            parts_sha256=row["parts_sha256"],
        ),
        sqs_message_id=row["sqs_message_id"],
        source_job_id=row["source_job_id"],
        results=row.get("results"),
        results_stage=_STAGES.get(row["results_stage"]),
        artifacts=tuple([read_artifact(artifact) for artifact in row["artifacts"]]),
        launch_count=row["launch_count"],
        memory_factor=row["memory_factor"],
        retries_from_launch=row["retries_from_launch"],
        owner=row["owner"],
        acted_by=row["acted_by"],
        has_open_launch=row["launched"],
        version=row["version"],
        trace_parent=row["trace_parent"],
        not_before=row["not_before"],
        cancel_requested_at=row["cancel_requested_at"],
        cleared_at=row["cleared_at"],
        is_deleted=row["deleted_at"] is not None,
        status_since=row["status_since"],
        created_at=row["created_at"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        updated_at=row["updated_at"],
    )


def read_artifact(stored: dict[str, Any]) -> Artifact:
    """One entry of the column `artifacts`."""
    return Artifact(
        name=stored["name"],
        stage=_STAGES_OF_ARTIFACTS[stored["stage"]],
        content_type=stored["content_type"],
        content_length=stored["content_length"],
        s3_key=stored["s3_key"],
    )


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    """An entry of the column `artifacts`, as `read_artifact` reads it."""
    return {
        "name": artifact.name,
        "stage": f"STAGE_{artifact.stage.name}",
        "content_type": artifact.content_type,
        "content_length": artifact.content_length,
        "s3_key": artifact.s3_key,
    }


def read_launch(row: Row) -> Launch:
    """A row of `launches`."""
    return Launch(**_launch(row))


def read_assigned_launch(row: Row) -> AssignedLaunch:
    """A row of `launches` with the columns ASSIGNED of its job."""
    return AssignedLaunch(
        **_launch(row),
        session_id=row["session_id"],
        accelerator=_ACCELERATORS[row["accelerator"]],
        owner=row["owner"],
        job_status=_STATUSES[row["job_status"]],
        job_queued_at=row["job_queued_at"],
        cancel_requested_at=row["cancel_requested_at"],
        trace_parent=row["trace_parent"],
        unscheduled_reason=row["unscheduled_reason"] or "",
        is_leased=bool(row["is_leased"]),
    )


# The columns that a launch takes from its job, for `FROM launches AS launch JOIN video_analysis_jobs AS job`.
ASSIGNED = """
    job.session_id, job.accelerator, job.cancel_requested_at, job.owner, job.status AS job_status,
    greatest(job.queued_at, job.not_before) AS job_queued_at, job.trace_parent,
    launch.lease_expires_at > clock_timestamp() AS is_leased,
    (SELECT earlier.ending_message FROM launches AS earlier
     WHERE earlier.job_id = job.id AND earlier.launch_no > job.retries_from_launch AND earlier.ending = 'unschedulable'
     ORDER BY earlier.launch_no DESC LIMIT 1) AS unscheduled_reason
"""


def _launch(row: Row) -> dict[str, Any]:
    ending = row["ending"]
    return {
        "job_id": row["job_id"],
        "launch_no": row["launch_no"],
        "cluster": row["cluster"],
        "memory_factor": row["memory_factor"],
        "kubernetes_uid": row["kubernetes_uid"],
        "placed_on": _ACCELERATORS.get(row["placed_on"]),
        "placement_reason": row["placement_reason"],
        "pod_name": row["pod_name"],
        "pod_uid": row["pod_uid"],
        "lease_hash": row["lease_hash"],
        "lease_expires_at": row["lease_expires_at"],
        # An operator may have written any text.
        "ending": _ENDINGS.get(ending, Ending.UNKNOWN) if ending else None,
        "ending_message": row["ending_message"],
        "opened_at": row["opened_at"],
        "confirmed_at": row["confirmed_at"],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
    }


def read_session(row: Row) -> Session:
    """A row of `video_sessions`."""
    return Session(
        id=row["id"],
        owner=read_owner(row),
        title=row["title"],
        player_ids=tuple(row["player_ids"]),
        notes=row["notes"],
        discipline=row["discipline"],
        camera_view=row["camera_view"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        players=tuple([read_player(player) for player in row.get("players") or ()]),
    )


def read_player(row: Row) -> Player:
    """A row of `players`, or one as JSON, whose times are texts."""
    return Player(
        id=row["id"],
        owner=read_owner(row),
        name=row["name"],
        height_cm=row["height_cm"],
        birth_year=row["birth_year"],
        hand=row["hand"],
        notes=row["notes"],
        created_at=_time(row["created_at"]),
        updated_at=_time(row["updated_at"]),
    )


def _time(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def read_owner(row: Row) -> Owner:
    """The owner that a row of `video_sessions` or `players`, or one joined with it, names."""
    return Owner(_OWNER_TYPES[row["owner_type"]], row["owner_id"])


def read_event(row: Row) -> Event:
    """A row of `events`. A status from before two-phase uploads, which has no name any more, reads as None."""
    return Event(
        xid=row["xid"],
        id=row["id"],
        job_id=row["job_id"],
        session_id=row["session_id"],
        from_status=_STATUSES.get(row["from_status"]),
        to_status=_STATUSES[row["to_status"]],
        failure_code=row["failure_code"],
        sample_fps=row["sample_fps"],
        include_frames=row["include_frames"],
        created_at=row["created_at"],
        # The row of a session that was deleted for good is gone.
        owner=read_owner(row) if row.get("owner_type") else None,
    )
