"""The blocking client. Its stubs carry the caller's token, deadlines and retries, and raise the errors of errors.py."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from crease.events.v1 import event_pb2_grpc
from crease.events.v1.event_pb2 import Event, WatchEventsRequest
from crease.jobs.v1 import job_pb2_grpc, library_pb2_grpc, player_pb2_grpc, session_pb2_grpc, share_pb2_grpc
from crease.jobs.v1.job_pb2 import Job, WatchJobRequest
from crease.upload.v1 import orphan_pb2_grpc, upload_pb2_grpc
from crease.upload.v1.upload_pb2 import CompleteUploadResponse, InitiateUploadRequest, SignDownloadRequest
from crease_client import upload
from crease_client.calls import Calls, Token
from crease_client.channels import open_client_channel
from crease_client.reconnection import (
    PATIENCE_SECONDS,
    RECONNECT_SECONDS,
    EventReconnection,
    JobReconnection,
    MessageT,
    Reconnection,
    RequestT,
    acknowledgements,
    check_done,
)
from crease_client.s3_transfer import S3Transfer


@dataclass(frozen=True)
class Client:
    """One stub per service, and the sequences of calls that every client needs. Threads may share it."""

    sessions: session_pb2_grpc.SessionServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    uploads: upload_pb2_grpc.UploadServiceStub
    players: player_pb2_grpc.PlayerServiceStub
    library: library_pb2_grpc.LibraryServiceStub
    shares: share_pb2_grpc.ShareServiceStub
    events: event_pb2_grpc.EventServiceStub
    orphans: orphan_pb2_grpc.OrphanServiceStub
    _connections: "_Connections" = field(repr=False)

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
        request = WatchJobRequest(job_id=job_id)
        return _follow(self.jobs.WatchJob, JobReconnection(request, patience_seconds, reconnecting))

    def wait(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Job:
        """The job when it is done. Raises JobFailed, JobCancelled, RpcError."""
        job = Job()
        for update in self.watch(job_id, patience_seconds=patience_seconds):
            job = update
        return check_done(job)

    def watch_events(
        self,
        request: WatchEventsRequest,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        reconnecting: Callable[[], None] = lambda: None,
    ) -> Iterator[Event]:
        """Yields the events that a request selects, without an end. Opens the stream again when it breaks.

        With a subscription, call `acknowledge` for each event that you have processed: the others come again, with the
        same ids. Without one, no event comes again, and the stream continues after the last one.
        Raises OutOfRange, with `after`, if events that were not read are no longer kept; else as `watch`.
        """
        own = WatchEventsRequest()
        own.CopyFrom(request)
        return _follow(self.events.WatchEvents, EventReconnection(own, patience_seconds, reconnecting))

    def acknowledge(self, subscription: str, events: Iterable[Event]) -> None:
        """Finishes events of a subscription that have been processed, in any order. Raises RpcError."""
        for request in acknowledgements(subscription, events):
            self.events.AcknowledgeEvents(request)

    def on_behalf_of(self, owner: str) -> "Client":
        """The same client for a service that calls for an owner, `coach:ID` or `org:ID`: each call names the owner."""
        return self._connections.client(owner)

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
        yield _Connections(to_jobs, to_upload, token).client()


@dataclass(frozen=True)
class _Connections:
    """The channels of a client and of those that it makes for owners."""

    jobs: grpc.Channel
    upload: grpc.Channel
    token: Token

    def client(self, owner: str = "") -> Client:
        calls = Calls(self.token, owner)
        jobs, upload = (grpc.intercept_channel(channel, calls) for channel in (self.jobs, self.upload))
        return Client(**stubs(jobs, upload), _connections=self)


def stubs(jobs: Any, upload: Any) -> dict[str, Any]:
    """The stubs of a client by their fields, on channels of either kind."""
    return {
        "sessions": session_pb2_grpc.SessionServiceStub(jobs),
        "jobs": job_pb2_grpc.JobServiceStub(jobs),
        "uploads": upload_pb2_grpc.UploadServiceStub(upload),
        "players": player_pb2_grpc.PlayerServiceStub(jobs),
        "library": library_pb2_grpc.LibraryServiceStub(jobs),
        "shares": share_pb2_grpc.ShareServiceStub(jobs),
        "events": event_pb2_grpc.EventServiceStub(jobs),
        "orphans": orphan_pb2_grpc.OrphanServiceStub(upload),
    }


def _follow(call: Callable[[RequestT], Any], reconnection: Reconnection[RequestT, MessageT]) -> Iterator[MessageT]:
    """The messages of a stream, which is opened again when it breaks, to the last one."""
    while True:
        stream = call(reconnection.request)
        with reconnection.one_stream(stream):
            reconnection.begun(stream.initial_metadata())
            for message in stream:
                is_last = reconnection.received(message)
                yield message
                if is_last:
                    return
        time.sleep(RECONNECT_SECONDS)
