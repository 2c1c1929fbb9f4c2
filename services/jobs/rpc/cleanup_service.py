"""CleanupService: `upload` claims S3 objects to remove, and compares S3 with the database."""

from datetime import timedelta

from google.protobuf import empty_pb2

from crease.cleanup.v1 import cleanup_pb2, cleanup_pb2_grpc
from crease.jobs.v1 import sweep_pb2, sweep_pb2_grpc
from services import errors
from services.auth import Verifier
from services.jobs.domain import authorization
from services.jobs.rpc.intake_service import end_user
from services.jobs.store import object_cleanup, pagination
from services.jobs.store.database import Database, parse_id
from services.jobs.store.object_cleanup import Cleanup, StoredVideo
from services.serving import Context

# A URL is valid for a week at most, and a PUT that began in time may end a little later.
MAX_AGAIN_SECONDS = 8 * 86400


class CleanupService(cleanup_pb2_grpc.CleanupServiceServicer):
    def __init__(self, database: Database, verifier: Verifier) -> None:
        self._database = database
        self._verifier = verifier

    async def ClaimCleanup(
        self, request: cleanup_pb2.ClaimCleanupRequest, context: Context
    ) -> cleanup_pb2.ClaimCleanupResponse:
        async with self._database.transaction() as connection:
            cleanups = await object_cleanup.claim(connection, request.limit, artifacts=request.artifacts)
        return cleanup_pb2.ClaimCleanupResponse(cleanups=[_cleanup(cleanup) for cleanup in cleanups])

    async def CompleteCleanup(self, request: cleanup_pb2.CompleteCleanupRequest, context: Context) -> empty_pb2.Empty:
        if not 0 <= request.again_in.seconds <= MAX_AGAIN_SECONDS:
            raise errors.InvalidArgument("again_in", f"must be 0 to {MAX_AGAIN_SECONDS} seconds")
        again_in = timedelta(seconds=request.again_in.seconds) if request.HasField("again_in") else None
        async with self._database.transaction() as connection:
            await object_cleanup.complete(connection, request.job_id, again_in, request.launches)
        return empty_pb2.Empty()

    async def ListVideos(
        self, request: cleanup_pb2.ListVideosRequest, context: Context
    ) -> cleanup_pb2.ListVideosResponse:
        authorization.check_superuser(await end_user(self._verifier))
        job_id = parse_id(request.after_job_id)
        if request.after_key and job_id is None:
            raise errors.InvalidArgument("after_job_id", "must be a UUID")
        after = (request.after_key, job_id) if job_id else None
        async with self._database.transaction() as connection:
            stored = await object_cleanup.list_stored(
                connection, request.s3_bucket, after, pagination.page_size(request.page_size)
            )
        return cleanup_pb2.ListVideosResponse(videos=[_kept_video(video) for video in stored])


class SweepService(sweep_pb2_grpc.SweepServiceServicer):
    """Deprecated: CleanupService under its old name. The messages of both have the same fields and numbers."""

    def __init__(self, cleanup: CleanupService) -> None:
        self._cleanup = cleanup

    async def TakeRubbish(
        self, request: sweep_pb2.TakeRubbishRequest, context: Context
    ) -> sweep_pb2.TakeRubbishResponse:
        reply = await self._cleanup.ClaimCleanup(cleanup_pb2.ClaimCleanupRequest(limit=request.limit), context)
        return sweep_pb2.TakeRubbishResponse.FromString(reply.SerializeToString())

    async def SettleRubbish(self, request: sweep_pb2.SettleRubbishRequest, context: Context) -> empty_pb2.Empty:
        own = cleanup_pb2.CompleteCleanupRequest.FromString(request.SerializeToString())
        return await self._cleanup.CompleteCleanup(own, context)

    async def ListVideos(self, request: sweep_pb2.ListVideosRequest, context: Context) -> sweep_pb2.ListVideosResponse:
        own = cleanup_pb2.ListVideosRequest.FromString(request.SerializeToString())
        reply = await self._cleanup.ListVideos(own, context)
        return sweep_pb2.ListVideosResponse.FromString(reply.SerializeToString())


def _cleanup(cleanup: Cleanup) -> cleanup_pb2.Cleanup:
    message = cleanup_pb2.Cleanup(
        job_id=str(cleanup.job_id),
        s3_bucket=cleanup.s3_bucket,
        prefix=cleanup.prefix,
        artifacts_only=cleanup.artifacts_only,
        launches=cleanup.launches,
        kept=cleanup.kept,
    )
    message.age.FromTimedelta(cleanup.age)
    return message


def _kept_video(video: StoredVideo) -> cleanup_pb2.KeptVideo:
    return cleanup_pb2.KeptVideo(
        job_id=str(video.job_id),
        s3_key=video.s3_key,
        is_verified=video.is_verified,
        artifacts=video.artifact_keys,
        open_launch=video.open_launch,
    )
