"""The client of `jobs`: each call has a time limit and carries the controller's own token."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc.aio

from crease.analysis.v1.launch_pb2 import (
    ConfirmLaunchRequest,
    Ending,
    EndLaunchRequest,
    Launch,
    ListLaunchesRequest,
    OpenLaunchesRequest,
)
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.events.v1.event_pb2 import Event, WatchEventsRequest
from crease.events.v1.event_pb2_grpc import EventServiceStub
from services import clients, logs, traces
from services.controller.core.launcher import Observed, job_of

CALL_SECONDS = 5.0
PAGE_SIZE = 200
MAX_CAPACITY = 1000
Reply = TypeVar("Reply")


class Jobs:
    """Every method is idempotent. Raises grpc.RpcError, and OSError if the token file cannot be read.

    `owner` returns the owner of the cluster's name, for `jobs` to refuse a second one.
    """

    def __init__(
        self, channel: grpc.aio.Channel, token_file: Path, cluster: str, owner: Callable[[], str] = lambda: ""
    ) -> None:
        self._launches = LaunchServiceStub(channel)
        self._events = EventServiceStub(channel)
        self._token_file = token_file
        self._cluster = cluster
        self._owner = owner

    async def open_launches(self, capacity: int) -> Sequence[Launch]:
        """Opens launches for queued jobs, and returns at most `capacity` that are not yet confirmed."""
        capacity = min(capacity, MAX_CAPACITY)
        request = OpenLaunchesRequest(cluster=self._cluster, capacity=capacity, owner=self._owner())
        reply = await self._call(self._launches.OpenLaunches, request)
        return reply.launches

    async def list_launches(self) -> Sequence[Launch]:
        """All open launches of this cluster: the whole list or an error, never a part of it."""
        launches: list[Launch] = []
        token = ""
        while True:
            request = ListLaunchesRequest(
                cluster=self._cluster, page_size=PAGE_SIZE, page_token=token, owner=self._owner()
            )
            page = await self._call(self._launches.ListLaunches, request)
            launches += page.launches
            token = page.next_page_token
            if not token:
                return launches

    async def confirm(self, launch: Launch, observed: Observed) -> None:
        """Confirms the launch's workload; with an empty uid, reports why it could not be created."""
        await self._confirm(launch.job_id, launch.launch_no, observed)

    async def knows(self, observed: Observed) -> bool:
        """Whether `jobs` ever opened the workload's launch.

        Asked by a confirmation: of an ended launch `jobs` refuses it with FAILED_PRECONDITION, of a launch that never
        existed with NOT_FOUND.
        """
        try:
            await self._confirm(*job_of(observed), observed)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return False
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
        return True

    async def end(self, launch: Launch, ending: Ending.ValueType, message: str) -> None:
        """Ends the launch."""
        request = EndLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no, ending=ending, message=message)
        await self._call(self._launches.EndLaunch, request)

    async def events(self, after: str) -> AsyncIterator[Event]:
        """Every event after that id, then new ones, without end."""
        async for event in self._events.WatchEvents(WatchEventsRequest(after=after), metadata=self._credentials()):
            yield event

    async def _confirm(self, job_id: str, launch_no: int, observed: Observed) -> None:
        request = ConfirmLaunchRequest(
            job_id=job_id,
            launch_no=launch_no,
            kubernetes_uid=observed.uid,
            placed_on=observed.placed_on,
            placement_reason=observed.placement_reason,
        )
        await self._call(self._launches.ConfirmLaunch, request)

    async def _call(self, method: Callable[..., Awaitable[Reply]], request: object) -> Reply:
        started = time.monotonic()
        try:
            return await method(request, timeout=CALL_SECONDS, metadata=self._credentials() + traces.metadata())
        finally:
            logs.add_duration("jobs_ms", time.monotonic() - started)

    def _credentials(self) -> tuple[tuple[str, str]]:
        return (clients.bearer(self._token_file),)
