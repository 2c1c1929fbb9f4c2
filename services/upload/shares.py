"""SharedReportService: signs the files of what a coach shared. jobs checks the secret."""

from google.protobuf.duration_pb2 import Duration

from crease.jobs.v1 import intake_pb2
from crease.upload.v1 import share_pb2 as shared_pb2
from crease.upload.v1 import share_pb2_grpc as shared_pb2_grpc
from services.auth import Share
from services.authorization import caller_as
from services.naming import THUMBNAIL
from services.rules.artifacts import newest_artifacts
from services.serving import Context
from services.upload.jobs_client import Jobs
from services.upload.s3.storage import Storage

FILES = ("report.html", "overlay.mp4", THUMBNAIL)


class SharedReportService(shared_pb2_grpc.SharedReportServiceServicer):
    """The RPC; protos/crease/upload/v1/share.proto documents it."""

    def __init__(self, jobs: Jobs, storage: Storage, url_seconds: int) -> None:
        self._jobs = jobs
        self._storage = storage
        self._url_seconds = url_seconds

    async def ReadShare(self, request: shared_pb2.ReadShareRequest, context: Context) -> shared_pb2.ReadShareResponse:
        allowed = await self._jobs.authorize_share(caller_as(Share).secret)
        return shared_pb2.ReadShareResponse(
            expires_at=allowed.expires_at,
            reports=[await self._report(shared) for shared in allowed.jobs],
            compared=allowed.compared if allowed.HasField("compared") else None,
            expires_in=Duration(seconds=self._url_seconds),
        )

    async def _report(self, shared: intake_pb2.SharedJob) -> shared_pb2.SharedReport:
        job = shared.job
        return shared_pb2.SharedReport(
            job_id=job.job_id,
            discipline=shared.discipline,
            completed_at=job.completed_at,
            created_at=shared.created_at,
            title=shared.title,
            player_names=shared.player_names,
            results=job.results,
            files=[
                shared_pb2.SharedFile(name=name, get=await self._storage.sign_get(job.video.s3_bucket, artifact.s3_key))
                for name, artifact in newest_artifacts(job).items()
                if name in FILES
            ],
        )
