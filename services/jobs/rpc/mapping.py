"""Rows as messages, and the names of enums as columns hold them."""

import hashlib
from datetime import datetime
from typing import Any

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from crease.analysis.v1 import launch_pb2
from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2, session_pb2
from services.jobs.domain import states
from services.jobs.domain.explanation import Explanation
from services.jobs.store.database import Row
from services.jobs.store.outbox import Position


def timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A protobuf timestamp, or None for an unset field."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def word(enum: Any, number: int) -> str:
    """`JOB_STATUS_QUEUED` as `queued`; the zero value as an empty string."""
    if number == 0 or number not in enum.values():
        return ""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return str(enum.Name(number)).removeprefix(prefix).lower()


def number(enum: Any, name: str | None) -> Any:
    """`queued` as JOB_STATUS_QUEUED; an empty or missing word as the zero value."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Value(f"{prefix}{name.upper()}") if name else 0


def _fields(row: Row, names: tuple[str, ...], times: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names} | {name: timestamp(row[name]) for name in times}


def session(row: Row, status: str) -> session_pb2.Session:
    return session_pb2.Session(
        session_id=str(row["id"]),
        owner_type=row["owner_type"],
        owner_id=row["owner_id"],
        title=row["title"],
        player_ids=row["player_ids"],
        notes=row["notes"],
        discipline=number(session_pb2.Discipline, row["discipline"]),
        camera_view=number(session_pb2.CameraView, row["camera_view"]),
        status=number(session_pb2.SessionStatus, status),
        created_at=timestamp(row["created_at"]),
        updated_at=timestamp(row["updated_at"]),
    )


def video(row: Row) -> job_pb2.VideoObject:
    names = ("s3_bucket", "s3_key", "content_type", "content_length", "etag", "version_id", "sha256")
    in_parts = ("part_bytes", "upload_id", "parts_sha256")
    return job_pb2.VideoObject(**{name: row[name] for name in (*names, *in_parts)})


def job(row: Row) -> job_pb2.Job:
    """A job; `results` only where the row holds them."""
    results = row.get("results")
    names = (
        "stage",
        "progress_pct",
        "failure_code",
        "error_message",
        "sample_fps",
        "include_frames",
        "deep_enabled",
        "anonymous",
    )
    times = ("created_at", "queued_at", "started_at", "completed_at", "updated_at", "cancel_requested_at")
    return job_pb2.Job(
        job_id=str(row["id"]),
        session_id=str(row["session_id"]),
        status=number(job_pb2.JobStatus, row["status"]),
        accelerator=number(job_pb2.Accelerator, row["accelerator"]),
        athlete_box=job_pb2.AthleteBox(**row["athlete_box"]) if row["athlete_box"] else None,
        video=video(row),
        sqs_message_id=row["sqs_message_id"] or "",
        results=json_format.ParseDict(results, struct_pb2.Struct()) if results else None,
        results_stage=number(job_pb2.Stage, row["results_stage"]),
        artifacts=[json_format.ParseDict(artifact, job_pb2.Artifact()) for artifact in row["artifacts"]],
        launch_count=row["launch_count"],
        source_job_id=str(row["source_job_id"] or ""),
        trace_parent=row["trace_parent"],
        **_fields(row, names, times),
    )


def launch(row: Row) -> launch_pb2.Launch:
    names = ("launch_no", "cluster", "memory_factor", "kubernetes_uid", "placement_reason", "pod_name", "trace_parent")
    times = ("opened_at", "confirmed_at", "started_at", "lease_expires_at", "ended_at")
    of_job = ("cancel_requested_at", "job_queued_at")
    return launch_pb2.Launch(
        job_id=str(row["job_id"]),
        session_id=str(row["session_id"]),
        accelerator=number(job_pb2.Accelerator, row["accelerator"]),
        placed_on=number(job_pb2.Accelerator, row["placed_on"]),
        ending=number(launch_pb2.Ending, row["ending"]),
        ending_message=row["ending_message"],
        owner_hash=hashlib.sha256(row["owner"].encode()).hexdigest()[:16],
        job_status=number(job_pb2.JobStatus, row["job_status"]),
        unscheduled_reason=row["unscheduled_reason"] or "",
        **_fields(row, names, (*times, *of_job)),
    )


def explanation(row: Row, told: Explanation, launches: list[Row]) -> job_pb2.ExplainJobResponse:
    return job_pb2.ExplainJobResponse(
        job_id=str(row["id"]),
        status=number(job_pb2.JobStatus, row["status"]),
        sentence=told.sentence,
        waiting_for=number(job_pb2.WaitingFor, told.waiting_for),
        since=timestamp(told.since),
        launches=[_past(launch) for launch in launches],
    )


def _past(row: Row) -> job_pb2.PastLaunch:
    names = ("launch_no", "cluster", "placement_reason", "pod_name", "ending", "ending_message")
    times = ("opened_at", "confirmed_at", "started_at", "ended_at")
    placed_on = number(job_pb2.Accelerator, row["placed_on"])
    launch_ending = number(job_pb2.LaunchEnding, row["ending"])
    return job_pb2.PastLaunch(placed_on=placed_on, launch_ending=launch_ending, **_fields(row, names, times))


def event(row: Row) -> event_pb2.Event:
    """A CloudEvents 1.0 envelope around the transition."""
    return event_pb2.Event(
        id=str(Position(row["xid"], row["id"])),
        source="/crease/jobs",
        specversion="1.0",
        type=states.event_type(row["to_status"], row["failure_code"]),
        subject=str(row["job_id"]),
        time=timestamp(row["created_at"]),
        data=event_pb2.JobTransition(
            job_id=str(row["job_id"]),
            session_id=str(row["session_id"]),
            from_status=number(job_pb2.JobStatus, row["from_status"]),
            to_status=number(job_pb2.JobStatus, row["to_status"]),
            failure_code=row["failure_code"],
            sample_fps=row["sample_fps"],
            include_frames=row["include_frames"],
        ),
    )
