"""The blocking client. Its stubs carry the caller's token, deadlines and retries, and raise the errors of errors.py."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from crease.jobs.v1 import job_pb2_grpc, library_pb2_grpc, player_pb2_grpc, session_pb2_grpc
from crease.jobs.v1.job_pb2 import Job, WatchJobRequest
from crease.upload.v1 import upload_pb2_grpc
from crease.upload.v1.upload_pb2 import CompleteUploadResponse, InitiateUploadRequest, SignDownloadRequest
from crease_client import upload
from crease_client.calls import Calls, Token
from crease_client.channels import open_client_channel
from crease_client.errors import RpcError
from crease_client.reconnection import FINAL, PATIENCE_SECONDS, RECONNECT_SECONDS, Reconnection, check_done
from crease_client.s3_transfer import S3Transfer


@dataclass(frozen=True)
class Client:
    """One stub per service, and the sequences of calls that every client needs. Threads may share it."""

    sessions: session_pb2_grpc.SessionServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    uploads: upload_pb2_grpc.UploadServiceStub
    players: player_pb2_grpc.PlayerServiceStub
    library: library_pb2_grpc.LibraryServiceStub

    def upload(
        self,
        path: Path,
        request: InitiateUploadRequest,
        progress: upload.Progress = upload.ignore_progress,
        notify: upload.Notify = upload.ignore_sentence,
    ) -> CompleteUploadResponse:
        """Sends a video and queues its job. `request` needs a session_id; the file gives what it omits.

        An upload resumes if the same request_id is sent again: keep it until this method returns.
        Raises RpcError, S3Error, FileError.
        """
        return upload.send(self.uploads, path, request, progress, notify)

    def watch(
        self,
        job_id: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        reconnecting: Callable[[], None] = lambda: None,
    ) -> Iterator[Job]:
        """Yields the job now and after each change, until it is final. Opens the stream again when it breaks.

        `reconnecting` is called before each further attempt. Raises RpcError: for a rejection, or Unavailable when no
        message arrived for `patience_seconds`.
        """
        reconnection = Reconnection(patience_seconds)
        while True:
            reconnection.opening()
            failure: RpcError | None = None
            stream = self.jobs.WatchJob(WatchJobRequest(job_id=job_id))
            try:
                for job in stream:
                    reconnection.received()
                    yield job
                    if job.status in FINAL:
                        return
            except RpcError as error:
                failure = error
            finally:
                stream.cancel()
            reconnecting()
            reconnection.check(failure)
            time.sleep(RECONNECT_SECONDS)

    def wait(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Job:
        """The job when it is done. Raises JobFailed, JobCancelled, RpcError."""
        job = Job()
        for update in self.watch(job_id, patience_seconds=patience_seconds):
            job = update
        return check_done(job)

    def download(self, job_id: str, name: str, path: Path) -> None:
        """Fetches an artifact of a job into a file, which appears complete or not at all.

        Raises RpcError, S3Error, FileError.
        """
        signed = self.uploads.SignDownload(SignDownloadRequest(job_id=job_id, name=name)).get
        S3Transfer().fetch(signed.method, signed.url, signed.headers, path)


@contextlib.contextmanager
def connect(*, jobs: str, upload: str, token: Token, retries: bool = True) -> Iterator[Client]:
    """Opens the channels to both endpoints and closes them after the block. `retries` False: one attempt per call."""
    with (
        open_client_channel(jobs, retries=retries) as to_jobs,
        open_client_channel(upload, retries=retries) as to_upload,
    ):
        calls = Calls(token)
        with_jobs = grpc.intercept_channel(to_jobs, calls)
        yield Client(
            sessions=session_pb2_grpc.SessionServiceStub(with_jobs),
            jobs=job_pb2_grpc.JobServiceStub(with_jobs),
            uploads=upload_pb2_grpc.UploadServiceStub(grpc.intercept_channel(to_upload, calls)),
            players=player_pb2_grpc.PlayerServiceStub(with_jobs),
            library=library_pb2_grpc.LibraryServiceStub(with_jobs),
        )
