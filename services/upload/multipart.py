"""Long videos: parts signed one page at a time, listed to go on where it stood, assembled at the end.

SignParts ─▶ the first time: S3 begins an upload in parts, jobs: RecordMultipart ─▶ sign each PUT
ListParts ─▶ S3 lists; an upload that S3 has lost is forgotten, and the next SignParts begins another
Complete  ─▶ S3 lists ─▶ all there? ─▶ S3 makes one object of them
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
from services.upload.s3.parts import Arrived
from services.upload.s3.preflight import Finding
from services.upload.s3.storage import Storage

# A sentence names no more parts than a person wants to read.
MOST_NAMED = 5


class Multipart:
    """What UploadService does for jobs with a plan of parts."""

    def __init__(self, jobs: Jobs, storage: Storage, log: Logger) -> None:
        self._jobs = jobs
        self._storage = storage
        self._log = log

    async def sign(self, job: job_pb2.Job, asked: Sequence[upload_pb2.Part]) -> list[upload_pb2.SignedRequest]:
        """PUTs of parts, in the order asked. Raises InvalidArgument."""
        validation.check_parts(asked, parts.count(job.video))
        video = job.video if job.video.upload_id else await self._begin(job)
        return await asyncio.gather(*(self._storage.sign_part(video, part.part_number, part.sha256) for part in asked))

    async def list(self, job: job_pb2.Job) -> list[Arrived]:
        """What has arrived."""
        if not job.video.upload_id:
            return []
        arrived = await self._storage.list_parts(job.video)
        if arrived is None:
            await self._jobs.record_multipart(job.job_id, "", instead_of=job.video.upload_id)
        return arrived or []

    async def assemble(self, job: job_pb2.Job, claimed: Sequence[upload_pb2.Part]) -> Finding | None:
        """Makes one object of the parts. What is wrong with them, or None where S3 should have the object now."""
        arrived = await self._storage.list_parts(job.video) if job.video.upload_id else None
        if arrived is None:
            # Assembled by an earlier call, lost, or never begun: looking for the object tells.
            if len(claimed) == parts.count(job.video):
                sent = sorted(claimed, key=lambda part: part.part_number)
                job.video.parts_sha256 = parts.sha256_of([part.sha256 for part in sent])
            return None
        if finding := judge(job.video, arrived, claimed):
            return finding
        await self._storage.assemble(job.video, arrived)
        job.video.parts_sha256 = parts.sha256_of([part.sha256 for part in arrived])
        return None

    async def _begin(self, job: job_pb2.Job) -> job_pb2.VideoObject:
        """Of two calls that begin one upload each, the first to be recorded is the one."""
        mine = await self._storage.begin_parts(job.video)
        video = (await self._jobs.record_multipart(job.job_id, mine, instead_of="")).video
        if video.upload_id != mine:
            lost = job_pb2.VideoObject(s3_bucket=video.s3_bucket, s3_key=video.s3_key, upload_id=mine)
            try:
                await self._storage.abort(lost)
            except errors.ServiceError as fault:
                self._log.warning("not aborted", s3_key=video.s3_key, why=fault.message)
        return video


def judge(video: job_pb2.VideoObject, arrived: Sequence[Arrived], claimed: Sequence[upload_pb2.Part]) -> Finding | None:
    """What keeps the parts from becoming the video; uploading what is named repairs it."""
    if missing := parts.missing(video, arrived):
        return _finding("VIDEO_INCOMPLETE", "missing", missing, parts.count(video))
    there = {part.number: part.sha256 for part in arrived}
    other = [part.part_number for part in claimed if there.get(part.part_number, "") not in ("", part.sha256.lower())]
    return _finding("VIDEO_CHECKSUM_DIFFERS", "not what was sent", other, parts.count(video)) if other else None


def _finding(code: str, what: str, numbers: Sequence[int], count: int) -> Finding:
    named = ", ".join(map(str, numbers[:MOST_NAMED])) + (" …" if len(numbers) > MOST_NAMED else "")
    message = f"Upload verification failed: {len(numbers)} of {count} parts are {what} ({named})"
    return Finding(code, is_definite=True, message=message)
