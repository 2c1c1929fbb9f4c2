"""The client for asyncio. Calls and streams are asynchronous; files and S3 are read and written in threads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crease.jobs.v1 import job_pb2_grpc, library_pb2_grpc, player_pb2_grpc, session_pb2_grpc
from crease.jobs.v1.job_pb2 import Job, WatchJobRequest
from crease.upload.v1 import upload_pb2_grpc
from crease.upload.v1.upload_pb2 import CompleteUploadResponse, InitiateUploadRequest, SignDownloadRequest
from crease_client import client
from crease_client import upload as sending
from crease_client.calls import AioStreamCalls, AioUnaryCalls, Token
from crease_client.channels import open_aio_client_channel
from crease_client.errors import RpcError
from crease_client.reconnection import FINAL, PATIENCE_SECONDS, RECONNECT_SECONDS, Reconnection, check_done
from crease_client.s3_transfer import S3Transfer

T = TypeVar("T")


@dataclass(frozen=True)
class Client:
    """As crease_client.client.Client; every method raises the same errors."""

    # These classes exist only for type checkers.
    sessions: "session_pb2_grpc.SessionServiceAsyncStub"
    jobs: "job_pb2_grpc.JobServiceAsyncStub"
    uploads: "upload_pb2_grpc.UploadServiceAsyncStub"
    players: "player_pb2_grpc.PlayerServiceAsyncStub"
    library: "library_pb2_grpc.LibraryServiceAsyncStub"
    # Sends videos, in a thread.
    blocking: client.Client

    async def upload(
        self,
        path: Path,
        request: InitiateUploadRequest,
        progress: sending.Progress = sending.ignore_progress,
        notify: sending.Notify = sending.ignore_sentence,
    ) -> CompleteUploadResponse:
        """Sends a video and queues its job; a cancellation stops the transfer. `progress` is called in a thread."""
        transfer = S3Transfer(sending.PARALLEL)
        return await _in_thread(
            transfer, lambda: sending.send(self.blocking.uploads, path, request, progress, notify, transfer)
        )

    async def watch(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[Job]:
        """Yields the job now and after each change, until it is final."""
        reconnection = Reconnection(patience_seconds)
        while True:
            reconnection.opening()
            failure: RpcError | None = None
            stream = self.jobs.WatchJob(WatchJobRequest(job_id=job_id))
            try:
                async for job in stream:
                    reconnection.received()
                    yield job
                    if job.status in FINAL:
                        return
            except RpcError as error:
                failure = error
            finally:
                stream.cancel()
            reconnection.check(failure)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def wait(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Job:
        """The job when it is done."""
        job = Job()
        async for update in self.watch(job_id, patience_seconds=patience_seconds):
            job = update
        return check_done(job)

    async def download(self, job_id: str, name: str, path: Path) -> None:
        """Fetches an artifact of a job into a file, which appears complete or not at all."""
        signed = (await self.uploads.SignDownload(SignDownloadRequest(job_id=job_id, name=name))).get
        transfer = S3Transfer()
        await _in_thread(transfer, lambda: transfer.fetch(signed.method, signed.url, signed.headers, path))


@contextlib.asynccontextmanager
async def connect(*, jobs: str, upload: str, token: Token) -> AsyncIterator[Client]:
    """Opens the channels to both endpoints and closes them after the block."""
    interceptors = [AioUnaryCalls(token), AioStreamCalls(token)]
    async with (
        open_aio_client_channel(jobs, interceptors) as to_jobs,
        open_aio_client_channel(upload, interceptors) as to_upload,
    ):
        with client.connect(jobs=jobs, upload=upload, token=token) as blocking:
            yield Client(
                sessions=session_pb2_grpc.SessionServiceStub(to_jobs),
                jobs=job_pb2_grpc.JobServiceStub(to_jobs),
                uploads=upload_pb2_grpc.UploadServiceStub(to_upload),
                players=player_pb2_grpc.PlayerServiceStub(to_jobs),
                library=library_pb2_grpc.LibraryServiceStub(to_jobs),
                blocking=blocking,
            )


async def _in_thread(transfer: S3Transfer, work: Callable[[], T]) -> T:
    """Runs `work` in a thread. A cancellation stops the transfer and waits until the thread has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        transfer.stop()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise
