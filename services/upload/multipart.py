"""Multipart uploads: signs parts one page at a time, lists them so that a client can resume, assembles them.

SignParts      ─▶ at first: S3 begins a multipart upload, jobs: RecordMultipart ─▶ sign each PUT
ListParts      ─▶ S3 lists; if S3 has lost the upload, jobs clears its id, and the next SignParts begins another
CompleteUpload ─▶ S3 lists ─▶ all parts arrived? ─▶ S3 assembles them
"""

import asyncio
from collections.abc import Sequence

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import errors
from services.logs import Logger
from services.upload import validation
from services.upload.jobs_client import Jobs
from services.upload.s3 import parts
from services.upload.s3.parts import UploadedPart
from services.upload.s3.preflight import Problem
from services.upload.s3.storage import Storage

# The most part numbers that an error lists.
MAX_NAMED_PARTS = 5


class Multipart:
    """The multipart uploads of UploadService."""

    def __init__(self, jobs: Jobs, storage: Storage, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._log = log

    async def sign(self, job: job_pb2.Job, requested: Sequence[upload_pb2.Part]) -> list[upload_pb2.SignedRequest]:
        """Signed PUTs of parts, in the order of the request. Raises InvalidArgument."""
        validation.check_parts(requested, parts.count(job.video))
        video = job.video if job.video.upload_id else await self._begin(job)
        return await asyncio.gather(
            *(self._storage.sign_part(video, part.part_number, part.sha256) for part in requested)
        )

    async def list(self, job: job_pb2.Job) -> list[UploadedPart]:
        """The parts that have arrived."""
        if not job.video.upload_id:
            return []
        arrived = await self._storage.list_parts(job.video)
        if arrived is None:
            await self._jobs.record_multipart(job.job_id, "", instead_of=job.video.upload_id)
        return arrived or []

    async def assemble(self, job: job_pb2.Job, claimed: Sequence[upload_pb2.Part]) -> Problem | None:
        """Assembles the parts. Returns their problem, or None if S3 should have the object now."""
        arrived = await self._storage.list_parts(job.video) if job.video.upload_id else None
        if arrived is None:
            # Assembled by an earlier call, lost, or never begun: the HEAD that follows decides.
            if len(claimed) == parts.count(job.video):
                sent = sorted(claimed, key=lambda part: part.part_number)
                job.video.parts_sha256 = parts.sha256_of([part.sha256 for part in sent])
            return None
        if problem := check_arrived(job.video, arrived, claimed):
            return problem
        await self._storage.assemble(job.video, arrived)
        job.video.parts_sha256 = parts.sha256_of([part.sha256 for part in arrived])
        return None

    async def _begin(self, job: job_pb2.Job) -> job_pb2.VideoObject:
        """Begins a multipart upload. Of concurrent calls, the first that jobs records wins."""
        upload_id = await self._storage.begin_parts(job.video)
        video = (await self._jobs.record_multipart(job.job_id, upload_id, instead_of="")).video
        if video.upload_id != upload_id:
            lost = job_pb2.VideoObject(s3_bucket=video.s3_bucket, s3_key=video.s3_key, upload_id=upload_id)
            try:
                await self._storage.abort(lost)
            except errors.ServiceError as error:
                self._log.warning("upload_not_aborted", s3_key=video.s3_key, why=error.message)
        return video


def check_arrived(
    video: job_pb2.VideoObject, arrived: Sequence[UploadedPart], claimed: Sequence[upload_pb2.Part]
) -> Problem | None:
    """The problem of the arrived parts; uploading the listed parts repairs it."""
    if missing := parts.missing(video, arrived):
        return _problem("VIDEO_INCOMPLETE", "missing", missing, parts.count(video))
    there = {part.number: part.sha256 for part in arrived}
    other = [part.part_number for part in claimed if there.get(part.part_number, "") not in ("", part.sha256.lower())]
    return _problem("VIDEO_CHECKSUM_DIFFERS", "not what was sent", other, parts.count(video)) if other else None


def _problem(code: str, what: str, numbers: Sequence[int], count: int) -> Problem:
    named = ", ".join(map(str, numbers[:MAX_NAMED_PARTS])) + (" …" if len(numbers) > MAX_NAMED_PARTS else "")
    message = f"Upload verification failed: {len(numbers)} of {count} parts are {what} ({named})"
    return Problem(code, is_permanent=True, message=message)
