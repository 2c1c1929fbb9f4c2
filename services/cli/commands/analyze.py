"""`crease analyze`: a session, a job, the video sent, every stage followed, the report fetched.

CreateSession ─▶ upload.py: the video into S3 ─▶ WatchJob … final ─▶ SignDownload ─▶ GET from S3
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_DONE, JOB_STATUS_FAILED, Job, WatchJobRequest
from crease.jobs.v1.session_pb2 import CameraView, CreateSessionRequest, Discipline
from crease.upload.v1.upload_pb2 import CompleteUploadResponse, InitiateUploadRequest
from services import clients
from services.cli.api import client, upload, video_file
from services.cli.api.client import Services
from services.cli.api.resume_state import Note, Notes
from services.cli.api.video_file import Video
from services.cli.errors import AWAY, BAD_VIDEO, FAILED, Trouble
from services.cli.ui import console

FINAL = (JOB_STATUS_DONE, JOB_STATUS_FAILED, JOB_STATUS_CANCELLED)
LONGEST_TITLE = 200
# How long `jobs` may stay away while we follow a job that needs nobody to follow it.
AWAY_SECONDS = 60.0
# What goes wrong with us rather than with the video.
OUR_FAILURES = frozenset({"DISRUPTED", "LEASE_LOST", "OUT_OF_MEMORY", "UNSCHEDULABLE", "IMAGE", "DEADLINE",
                          "DEAD_LETTERED", "SERVICE_AWAY", "UPLOAD_EXPIRED"})  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What the user asked for, beside the video."""

    discipline: str = "batting"
    camera: str = ""
    title: str = ""
    players: tuple[str, ...] = ()
    # Frames a second; 0: the service's own choice.
    sample_fps: int = 0
    include_frames: bool = False
    # Neither names nor faces.
    anonymous: bool = False


def analyze(services: Services, path: Path, order: Order, *, notes: Notes, largest_bytes: int) -> Job:
    """The finished job. Raises Trouble, with the job's own sentence where the job failed.

    Broken off while it sends, the same call again goes on with the same job.
    """
    with console.bar("Reading") as progress:
        video = video_file.read(path, largest_bytes=largest_bytes, progress=progress)
    job = follow(services, _upload(services, video, order, notes))
    if job.status != JOB_STATUS_DONE:
        raise ended_badly(job)
    return job


def _upload(services: Services, video: Video, order: Order, notes: Notes) -> str:
    meant = (services.whose, order)

    def begin() -> str:
        return services.call(services.sessions.CreateSession, _session(video, order)).session_id

    note, is_old = notes.take(video.path, *meant, begin=begin)
    try:
        reply = _send(services, video, order, note)
    except Trouble as trouble:
        if not (is_old and trouble.is_refusal):
            raise
        # What was begun then can't be gone on with: it has expired, or somebody has deleted it.
        notes.drop(video.path, *meant)
        note, _ = notes.take(video.path, *meant, begin=begin)
        reply = _send(services, video, order, note)
    notes.drop(video.path, *meant)
    console.aside(f"{reply.message} (job {reply.job_id}).")
    return reply.job_id


def _send(services: Services, video: Video, order: Order, note: Note) -> CompleteUploadResponse:
    asked = InitiateUploadRequest(
        session_id=note.session_id,
        sample_fps=order.sample_fps,
        include_frames=order.include_frames,
        anonymous=order.anonymous,
        content_type=video.content_type,
        content_length=video.content_length,
        sha256=video.sha256,
        request_id=note.request_id,
    )
    with console.bar("Uploading") as progress:
        return upload.send(services, video.path, asked, progress, console.line)


def _session(video: Video, order: Order) -> CreateSessionRequest:
    # A file is often named after who is in it.
    title = "Anonymous" if order.anonymous else order.title or video.path.stem
    return CreateSessionRequest(
        title=title[:LONGEST_TITLE],
        player_ids=order.players,
        discipline=Discipline.Value(f"DISCIPLINE_{order.discipline.upper()}"),
        camera_view=CameraView.Value(f"CAMERA_VIEW_{order.camera.upper() or 'UNSPECIFIED'}"),
    )


def follow(services: Services, job_id: str) -> Job:
    """Shows every stage of a job until it is final. Raises Trouble when `jobs` stays away."""
    with console.stages() as shown:
        for job in watch(services, job_id):
            shown(job)
    return job


def watch(services: Services, job_id: str) -> Iterator[Job]:
    """The job now and after every change, until it is final; through restarts of `jobs`."""
    heard = time.monotonic()
    while True:
        # A stream that ended without a final state belonged to a server that was told to stop.
        try:
            for job in services.stream(services.jobs.WatchJob, WatchJobRequest(job_id=job_id)):
                heard = time.monotonic()
                yield job
                if job.status in FINAL:
                    return
        except grpc.RpcError as error:
            if not clients.is_transient(error):
                raise client.meaning(error) from error
        services.check_up()
        if time.monotonic() - heard > AWAY_SECONDS:
            raise Trouble(f"`jobs` stays away. The analysis goes on by itself: `crease report {job_id}` later.", AWAY)
        time.sleep(0.5)


def ended_badly(job: Job) -> Trouble:
    """A job that ended without being done, in its own words."""
    if job.status == JOB_STATUS_CANCELLED:
        return Trouble(f"Job {job.job_id} was cancelled.", FAILED)
    sentence = job.error_message.rstrip(".") or f"Job {job.job_id} failed without saying why"
    return Trouble(f"{sentence}.", FAILED if job.failure_code in OUR_FAILURES else BAD_VIDEO)
