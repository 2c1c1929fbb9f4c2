"""Calls to jobs and upload with the visitor's own token or the secret of a share: the page has no other rights.

The channels are those of crease_client: its service config has the deadline and the retries of each call.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc
import grpc.aio

from crease.jobs.v1 import job_pb2_grpc, library_pb2_grpc, player_pb2_grpc, session_pb2_grpc, share_pb2_grpc
from crease.upload.v1 import share_pb2_grpc as shared_pb2_grpc
from crease.upload.v1 import upload_pb2_grpc
from services.web import faults
from services.web.faults import PageError

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Stubs:
    """One stub per service. Their types are those of blocking stubs; the channels are asynchronous."""

    sessions: session_pb2_grpc.SessionServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    library: library_pb2_grpc.LibraryServiceStub
    players: player_pb2_grpc.PlayerServiceStub
    shares: share_pb2_grpc.ShareServiceStub
    uploads: upload_pb2_grpc.UploadServiceStub
    shared: shared_pb2_grpc.SharedReportServiceStub


def open_stubs(jobs: grpc.aio.Channel, upload: grpc.aio.Channel) -> Stubs:
    """The stubs of both channels."""
    return Stubs(
        session_pb2_grpc.SessionServiceStub(cast(Any, jobs)),
        job_pb2_grpc.JobServiceStub(cast(Any, jobs)),
        library_pb2_grpc.LibraryServiceStub(cast(Any, jobs)),
        player_pb2_grpc.PlayerServiceStub(cast(Any, jobs)),
        share_pb2_grpc.ShareServiceStub(cast(Any, jobs)),
        upload_pb2_grpc.UploadServiceStub(cast(Any, upload)),
        shared_pb2_grpc.SharedReportServiceStub(cast(Any, upload)),
    )


@dataclass(frozen=True)
class Calls:
    """The calls of one visitor. `scheme`: Bearer for a token, Share for the secret of a share."""

    stubs: Stubs
    token: Callable[[], str]
    scheme: str = "Bearer"

    async def call(self, method: Callable[..., Reply], request: Any) -> Reply:
        """Calls, and again while the service is unavailable. Raises PageError."""
        try:
            reply: Reply = await cast(Any, method(request, metadata=self._credentials()))
        except grpc.RpcError as error:
            raise faults.of_call(error) from error
        return reply

    async def undo(self, method: Callable[..., Reply], request: Any) -> Reply:
        """Undoes a deletion. Raises PageError; what was deleted for good is not found."""
        try:
            return await self.call(method, request)
        except PageError as error:
            raise faults.of_undo(error) from None

    def stream(self, method: Callable[..., Any], request: Any) -> AsyncIterator[Any]:
        """Opens a stream, whose iterator raises grpc.RpcError."""
        return cast(AsyncIterator[Any], method(request, metadata=self._credentials()))

    def _credentials(self) -> tuple[tuple[str, str]]:
        return (("authorization", f"{self.scheme} {self.token()}"),)
