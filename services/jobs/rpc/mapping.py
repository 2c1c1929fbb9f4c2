"""Records as messages of the protos."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, player_pb2, session_pb2
from services.jobs.domain.explanation import Explanation
from services.jobs.domain.protobuf import enum_number, timestamp
from services.jobs.domain.records import Artifact, AssignedLaunch, Job, Launch, Player, Session, Video
from services.jobs.domain.states import SessionStatus


def session(record: Session, status: SessionStatus) -> session_pb2.Session:
    """A session with its status."""
    return session_pb2.Session(
        session_id=str(record.id),
        owner_type=record.owner.type,
        owner_id=record.owner.id,
        title=record.title,
        player_ids=record.player_ids,
        notes=record.notes,
        discipline=enum_number(session_pb2.Discipline, record.discipline),
        camera_view=enum_number(session_pb2.CameraView, record.camera_view),
        status=enum_number(session_pb2.SessionStatus, status),
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        etag=record.etag,
        # The notes are the owner's own: no report and no analyzer needs them.
        players=[player(replace(named, notes="")) for named in record.players],
    )


def player(record: Player) -> player_pb2.Player:
    """A player."""
    return player_pb2.Player(
        player_id=record.id,
        name=record.name,
        height_cm=record.height_cm,
        birth_year=record.birth_year,
        hand=enum_number(player_pb2.Hand, record.hand),
        notes=record.notes,
        owner_type=record.owner.type,
        owner_id=record.owner.id,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
        etag=record.etag,
    )


def video(record: Video) -> job_pb2.VideoObject:
    """The S3 object of a job."""
    return job_pb2.VideoObject(
        s3_bucket=record.s3_bucket,
        s3_key=record.s3_key,
        content_type=record.content_type,
        content_length=record.content_length,
        etag=record.etag,
        version_id=record.version_id,
        sha256=record.sha256,
        part_bytes=record.part_bytes,
        parts_sha256=record.parts_sha256,
    )


def job(record: Job) -> job_pb2.Job:
    """A job; `results` only if the record holds them."""
    return job_pb2.Job(
        job_id=str(record.id),
        session_id=str(record.session_id),
        status=enum_number(job_pb2.JobStatus, record.status),
        stage=record.stage,
        progress_pct=record.progress_pct,
        failure_code=record.failure_code,
        error_message=record.error_message,
        sample_fps=record.sample_fps,
        include_frames=record.include_frames,
        deep_enabled=record.deep_enabled,
        anonymous=record.anonymous,
        accelerator=enum_number(job_pb2.Accelerator, record.accelerator),
        athlete_box=job_pb2.AthleteBox(**record.athlete_box) if record.athlete_box else None,
        discipline=enum_number(session_pb2.Discipline, record.discipline),
        capture_fps=record.capture_fps,
        events=[job_pb2.GivenEvent(name=event.name, time_seconds=event.time_seconds) for event in record.events],
        video=video(record.video),
        sqs_message_id=record.sqs_message_id or "",
        results=json_format.ParseDict(record.results, struct_pb2.Struct()) if record.results else None,
        results_stage=enum_number(job_pb2.Stage, record.results_stage),
        artifacts=[_artifact(artifact) for artifact in record.artifacts],
        launch_count=record.launch_count,
        source_job_id=str(record.source_job_id or ""),
        created_at=timestamp(record.created_at),
        queued_at=timestamp(record.queued_at),
        started_at=timestamp(record.started_at),
        completed_at=timestamp(record.completed_at),
        updated_at=timestamp(record.updated_at),
        cancel_requested_at=timestamp(record.cancel_requested_at),
    )


def job_with_upload_id(record: Job) -> job_pb2.Job:
    """A job with the id of its unfinished upload, where `upload` of 0.2.0 reads it. Remove with the next release."""
    message = job(record)
    message.video.upload_id = record.video.upload_id
    return message


def _artifact(record: Artifact) -> job_pb2.Artifact:
    return job_pb2.Artifact(
        name=record.name,
        stage=enum_number(job_pb2.Stage, record.stage),
        content_type=record.content_type,
        content_length=record.content_length,
        s3_key=record.s3_key,
    )


def launch(record: AssignedLaunch) -> launch_pb2.Launch:
    """A launch, for its controller; `owner_hash` keeps the owner's id out of Kubernetes labels."""
    return launch_pb2.Launch(
        job_id=str(record.job_id),
        launch_no=record.launch_no,
        session_id=str(record.session_id),
        cluster=record.cluster,
        memory_factor=record.memory_factor,
        accelerator=enum_number(job_pb2.Accelerator, record.accelerator),
        kubernetes_uid=record.kubernetes_uid,
        placed_on=enum_number(job_pb2.Accelerator, record.placed_on),
        placement_reason=record.placement_reason,
        pod_name=record.pod_name,
        ending=enum_number(launch_pb2.Ending, record.ending),
        ending_message=record.ending_message,
        owner_hash=hashlib.sha256(record.owner.encode()).hexdigest()[:16],
        job_status=enum_number(job_pb2.JobStatus, record.job_status),
        job_queued_at=timestamp(record.job_queued_at),
        unscheduled_reason=record.unscheduled_reason,
        trace_parent=record.trace_parent,
        opened_at=timestamp(record.opened_at),
        confirmed_at=timestamp(record.confirmed_at),
        started_at=timestamp(record.started_at),
        lease_expires_at=timestamp(record.lease_expires_at),
        ended_at=timestamp(record.ended_at),
        cancel_requested_at=timestamp(record.cancel_requested_at),
    )


def explanation(record: Job, explained: Explanation, launches: Sequence[Launch]) -> job_pb2.ExplainJobResponse:
    """The answer of ExplainJob, with the job's launches."""
    return job_pb2.ExplainJobResponse(
        job_id=str(record.id),
        status=enum_number(job_pb2.JobStatus, record.status),
        sentence=explained.sentence,
        waiting_for=enum_number(job_pb2.WaitingFor, explained.waiting_for),
        since=timestamp(explained.since),
        launches=[_past_launch(launch) for launch in launches],
    )


def _past_launch(record: Launch) -> job_pb2.PastLaunch:
    return job_pb2.PastLaunch(
        launch_no=record.launch_no,
        cluster=record.cluster,
        placed_on=enum_number(job_pb2.Accelerator, record.placed_on),
        placement_reason=record.placement_reason,
        pod_name=record.pod_name,
        ending=record.ending or "",
        ending_message=record.ending_message,
        opened_at=timestamp(record.opened_at),
        confirmed_at=timestamp(record.confirmed_at),
        started_at=timestamp(record.started_at),
        ended_at=timestamp(record.ended_at),
        launch_ending=enum_number(job_pb2.LaunchEnding, record.ending),
    )
