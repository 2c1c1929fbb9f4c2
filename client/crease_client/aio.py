"""The client for asyncio. Calls and streams are asynchronous; files and S3 are read and written in threads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from crease.events.v1 import event_pb2_grpc
from crease.events.v1.event_pb2 import Event, WatchEventsRequest
from crease.jobs.v1 import job_pb2_grpc, library_pb2_grpc, player_pb2_grpc, session_pb2_grpc, share_pb2_grpc
from crease.jobs.v1.job_pb2 import Job, WatchJobRequest
from crease.upload.v1 import orphan_pb2_grpc, upload_pb2_grpc
from crease.upload.v1.upload_pb2 import CompleteUploadResponse, InitiateUploadRequest, SignDownloadRequest
from crease_client import client
from crease_client import upload as sending
from crease_client.calls import AioOnBehalf, AioStreamCalls, AioUnaryCalls, Token
from crease_client.channels import open_aio_client_channel
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
    shares: "share_pb2_grpc.ShareServiceAsyncStub"
    events: "event_pb2_grpc.EventServiceAsyncStub"
    orphans: "orphan_pb2_grpc.OrphanServiceAsyncStub"
    # Sends videos, in a thread.
    blocking: client.Client
    _connections: "_Connections" = field(repr=False)

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

    def watch(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[Job]:
        """Yields the job now and after each change, until it is final."""
        return _follow(self.jobs.WatchJob, JobReconnection(WatchJobRequest(job_id=job_id), patience_seconds))

    async def wait(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Job:
        """The job when it is done."""
        job = Job()
        async for update in self.watch(job_id, patience_seconds=patience_seconds):
            job = update
        return check_done(job)

    def watch_events(
        self, request: WatchEventsRequest, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> AsyncIterator[Event]:
        """Yields the events that a request selects, without an end."""
        own = WatchEventsRequest()
        own.CopyFrom(request)
        return _follow(self.events.WatchEvents, EventReconnection(own, patience_seconds))

    async def acknowledge(self, subscription: str, events: Iterable[Event]) -> None:
        """Finishes events of a subscription that have been processed, in any order."""
        for request in acknowledgements(subscription, events):
            await self.events.AcknowledgeEvents(request)

    def on_behalf_of(self, owner: str) -> "Client":
        """The same client for a service that calls for an owner, `coach:ID` or `org:ID`: each call names the owner."""
        return self._connections.client(owner)

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
            yield _Connections(to_jobs, to_upload, blocking).client()


@dataclass(frozen=True)
class _Connections:
    """The channels of a client and of those that it makes for owners."""

    jobs: grpc.aio.Channel
    upload: grpc.aio.Channel
    blocking: client.Client

    def client(self, owner: str = "") -> Client:
        jobs: Any = AioOnBehalf(self.jobs, owner) if owner else self.jobs
        upload: Any = AioOnBehalf(self.upload, owner) if owner else self.upload
        blocking = self.blocking.on_behalf_of(owner) if owner else self.blocking
        return Client(**client.stubs(jobs, upload), blocking=blocking, _connections=self)


async def _follow(
    call: Callable[[RequestT], Any], reconnection: Reconnection[RequestT, MessageT]
) -> AsyncIterator[MessageT]:
    """The messages of a stream, which is opened again when it breaks, to the last one."""
    while True:
        stream = call(reconnection.request)
        with reconnection.one_stream(stream):
            reconnection.begun(await stream.initial_metadata())
            async for message in stream:
                is_last = reconnection.received(message)
                yield message
                if is_last:
                    return
        await asyncio.sleep(RECONNECT_SECONDS)


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
