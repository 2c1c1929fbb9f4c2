"""SweepService: what S3 holds and should not, for `upload`, which holds S3 and no rows."""

from datetime import timedelta

from google.protobuf import empty_pb2

from crease.jobs.v1 import sweep_pb2, sweep_pb2_grpc
from services import errors
from services.auth import Verifier
from services.jobs.domain import authorization
from services.jobs.rpc.intake_service import person_behind
from services.jobs.store import object_cleanup, pagination
from services.jobs.store.database import Database, Row, parse_id
from services.serving import Context

# URLs live for a week at most, and a PUT that began in time a little longer.
MAX_AGAIN_SECONDS = 8 * 86400


class SweepService(sweep_pb2_grpc.SweepServiceServicer):
    def __init__(self, database: Database, verifier: Verifier) -> None:
        self._database = database
        self._verifier = verifier

    async def ClaimCleanup(
        self, request: sweep_pb2.ClaimCleanupRequest, context: Context
    ) -> sweep_pb2.ClaimCleanupResponse:
        async with self._database.transaction() as connection:
            rows = await object_cleanup.take(connection, request.limit)
        return sweep_pb2.ClaimCleanupResponse(cleanups=[_cleanup(row) for row in rows])

    async def CompleteCleanup(
        self, request: sweep_pb2.CompleteCleanupRequest | sweep_pb2.SettleRubbishRequest, context: Context
    ) -> empty_pb2.Empty:
        if not 0 <= request.again_in.seconds <= MAX_AGAIN_SECONDS:
            raise errors.InvalidArgument("again_in", f"must be 0 to {MAX_AGAIN_SECONDS} seconds")
        again_in = timedelta(seconds=request.again_in.seconds) if request.HasField("again_in") else None
        async with self._database.transaction() as connection:
            await object_cleanup.settle(connection, request.job_id, again_in)
        return empty_pb2.Empty()

    async def TakeRubbish(
        self, request: sweep_pb2.TakeRubbishRequest, context: Context
    ) -> sweep_pb2.TakeRubbishResponse:
        """Deprecated. Its messages have the fields and numbers of ClaimCleanup's."""
        reply = await self.ClaimCleanup(sweep_pb2.ClaimCleanupRequest(limit=request.limit), context)
        return sweep_pb2.TakeRubbishResponse.FromString(reply.SerializeToString())

    async def SettleRubbish(self, request: sweep_pb2.SettleRubbishRequest, context: Context) -> empty_pb2.Empty:
        """Deprecated."""
        return await self.CompleteCleanup(request, context)

    async def ListVideos(self, request: sweep_pb2.ListVideosRequest, context: Context) -> sweep_pb2.ListVideosResponse:
        authorization.check_superuser(await person_behind(self._verifier))
        job_id = parse_id(request.after_job_id)
        if request.after_key and job_id is None:
            raise errors.InvalidArgument("after_job_id", "must be a UUID")
        after = (request.after_key, job_id) if job_id else None
        async with self._database.transaction() as connection:
            rows = await object_cleanup.kept(
                connection, request.s3_bucket, after, pagination.page_size(request.page_size)
            )
        return sweep_pb2.ListVideosResponse(videos=[_kept(row) for row in rows])


def _cleanup(row: Row) -> sweep_pb2.Cleanup:
    cleanup = sweep_pb2.Cleanup(job_id=str(row["id"]), s3_bucket=row["s3_bucket"], prefix=object_cleanup.prefix(row))
    cleanup.age.FromTimedelta(row["age"])
    return cleanup


def _kept(row: Row) -> sweep_pb2.KeptVideo:
    expected = row["deleted_at"] is None
    artifacts = [artifact["s3_key"] for artifact in row["artifacts"]]
    return sweep_pb2.KeptVideo(
        job_id=str(row["id"]),
        s3_key=row["s3_key"],
        is_verified=expected and row["etag"] != "",
        artifacts=artifacts if expected else [],
    )
