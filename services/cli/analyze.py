"""`crease analyze`: a session, a job, the video sent, every stage followed, the report fetched.

CreateSession ─▶ InitiateUpload ─▶ PUT to S3 ─▶ CompleteUpload ─▶ WatchJob … final ─▶ SignDownload ─▶ GET from S3
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_DONE, JOB_STATUS_FAILED, Job, WatchJobRequest
from crease.jobs.v1.session_pb2 import CameraView, CreateSessionRequest, Discipline
from crease.upload.v1.upload_pb2 import CompleteUploadRequest, InitiateUploadRequest
from services import clients
from services.cli import client, show, transfer, videos
from services.cli.client import Services
from services.cli.trouble import AWAY, BAD_VIDEO, FAILED, Trouble
from services.cli.videos import Video

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


def analyze(services: Services, path: Path, order: Order, *, largest_bytes: int) -> Job:
    """The finished job. Raises Trouble, with the job's own sentence where the job failed."""
    with show.bar("Reading") as progress:
        video = videos.read(path, largest_bytes=largest_bytes, progress=progress)
    job_id = _upload(services, video, order)
    job = follow(services, job_id)
    if job.status != JOB_STATUS_DONE:
        raise ended_badly(job)
    return job


def _upload(services: Services, video: Video, order: Order) -> str:
    session = services.call(services.sessions.CreateSession, _session(video, order))
    # One id for every try of this upload, or a lost answer would leave a second job behind.
    asked = InitiateUploadRequest(
        session_id=session.session_id,
        sample_fps=order.sample_fps,
        include_frames=order.include_frames,
        content_type=video.content_type,
        content_length=video.content_length,
        sha256=video.sha256,
        request_id=str(uuid.uuid4()),
    )
    ticket = services.call(services.uploads.InitiateUpload, asked)
    with show.bar("Uploading") as progress:
        transfer.put(
            ticket.presigned_url,
            ticket.required_headers,
            video.path,
            lambda done: progress(done, video.content_length),
        )
    reply = services.call(services.uploads.CompleteUpload, CompleteUploadRequest(job_id=ticket.job_id))
    show.line(f"{reply.message} (job {ticket.job_id}).")
    return ticket.job_id


def _session(video: Video, order: Order) -> CreateSessionRequest:
    return CreateSessionRequest(
        title=(order.title or video.path.stem)[:LONGEST_TITLE],
        player_ids=order.players,
        discipline=Discipline.Value(f"DISCIPLINE_{order.discipline.upper()}"),
        camera_view=CameraView.Value(f"CAMERA_VIEW_{order.camera.upper() or 'UNSPECIFIED'}"),
    )


def follow(services: Services, job_id: str) -> Job:
    """Shows every stage of a job until it is final. Raises Trouble when `jobs` stays away."""
    with show.stages() as shown:
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
            if not clients.is_passing(error):
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
