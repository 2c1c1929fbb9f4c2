"""Multipart uploads: signs parts one page at a time, lists them so that a client can resume, assembles them.

SignParts      ─▶ at first: S3 begins a multipart upload, jobs: RecordMultipart ─▶ sign each PUT
ListParts      ─▶ S3 lists; if S3 has lost the upload, jobs clears its id, and the next SignParts begins another
CompleteUpload ─▶ S3 lists ─▶ all parts arrived? ─▶ S3 assembles them
"""

import asyncio
from collections.abc import Sequence

from crease.jobs.v1 import intake_pb2, job_pb2
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

    async def sign(
        self, upload: intake_pb2.Upload, requested: Sequence[upload_pb2.Part]
    ) -> list[upload_pb2.SignedRequest]:
        """Signed PUTs of parts, in the order of the request. Raises InvalidArgument."""
        video = upload.job.video
        validation.check_parts(requested, parts.count(video))
        upload_id = upload.upload_id or await self._begin(upload.job)
        return await asyncio.gather(
            *(self._storage.sign_part(video, upload_id, part.part_number, part.sha256) for part in requested)
        )

    async def list(self, upload: intake_pb2.Upload) -> list[UploadedPart]:
        """The parts that have arrived."""
        if not upload.upload_id:
            return []
        arrived = await self._storage.list_parts(upload.job.video, upload.upload_id)
        if arrived is None:
            await self._jobs.record_multipart(upload.job.job_id, "", instead_of=upload.upload_id)
        return arrived or []

    async def assemble(self, upload: intake_pb2.Upload, claimed: Sequence[upload_pb2.Part]) -> Problem | None:
        """Assembles the parts. Returns their problem, or None if S3 should have the object now."""
        video = upload.job.video
        arrived = await self._storage.list_parts(video, upload.upload_id) if upload.upload_id else None
        if arrived is None:
            # Assembled by an earlier call, lost, or never begun: the HEAD that follows decides.
            if len(claimed) == parts.count(video):
                sent = sorted(claimed, key=lambda part: part.part_number)
                video.parts_sha256 = parts.sha256_of([part.sha256 for part in sent])
            return None
        if problem := check_arrived(video, arrived, claimed):
            return problem
        await self._storage.assemble(video, upload.upload_id, arrived)
        video.parts_sha256 = parts.sha256_of([part.sha256 for part in arrived])
        return None

    async def _begin(self, job: job_pb2.Job) -> str:
        """Begins a multipart upload and returns its id. Of concurrent calls, the first that jobs records wins."""
        upload_id = await self._storage.begin_parts(job.video)
        await self._jobs.record_multipart(job.job_id, upload_id, instead_of="")
        recorded = (await self._jobs.get_upload(job.job_id)).upload_id
        if recorded != upload_id:
            try:
                await self._storage.abort(job.video, upload_id)
            except errors.ServiceError as error:
                self._log.warning("upload_not_aborted", s3_key=job.video.s3_key, why=error.message)
        return recorded


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
