"""What the controller asks of `jobs`, each call with a time limit and the controller's own token."""

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
from services import auth, logs, traces
from services.controller.core.launcher import Seen, job_of

CALL_SECONDS = 5.0
PAGE = 200
MOST_AT_ONCE = 1000
Reply = TypeVar("Reply")


class Jobs:
    """Every method raises grpc.RpcError, and OSError where the token cannot be read. All may be repeated."""

    def __init__(self, channel: grpc.aio.Channel, token_file: Path, cluster: str) -> None:
        self._launches = LaunchServiceStub(channel)
        self._events = EventServiceStub(channel)
        self._token_file = token_file
        self._cluster = cluster

    async def open_launches(self, capacity: int) -> Sequence[Launch]:
        """Launches to run now, at most `capacity`."""
        request = OpenLaunchesRequest(cluster=self._cluster, capacity=min(capacity, MOST_AT_ONCE))
        reply = await self._ask(self._launches.OpenLaunches, request)
        return reply.launches

    async def list_launches(self) -> Sequence[Launch]:
        """All open launches of this cluster: the whole list or an error, never a part of it."""
        launches: list[Launch] = []
        token = ""
        while True:
            request = ListLaunchesRequest(cluster=self._cluster, page_size=PAGE, page_token=token)
            page = await self._ask(self._launches.ListLaunches, request)
            launches += page.launches
            token = page.next_page_token
            if not token:
                return launches

    async def confirm(self, launch: Launch, seen: Seen) -> None:
        """Says what runs for the launch; where its uid is empty, why nothing does."""
        await self._confirm(launch.job_id, launch.launch_no, seen)

    async def knows(self, seen: Seen) -> bool:
        """Whether there was ever a launch that something runs for. Confirming tells it, since no launch is unlisted but
        one that has ended, or one that never was."""
        try:
            await self._confirm(*job_of(seen), seen)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return False
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
        return True

    async def end(self, launch: Launch, ending: Ending.ValueType, message: str) -> None:
        """Says how the launch ended."""
        request = EndLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no, ending=ending, message=message)
        await self._ask(self._launches.EndLaunch, request)

    async def events(self, after: str) -> AsyncIterator[Event]:
        """Every event after that one, then new ones, without end."""
        async for event in self._events.WatchEvents(WatchEventsRequest(after=after), metadata=self._proof()):
            yield event

    async def _confirm(self, job_id: str, launch_no: int, seen: Seen) -> None:
        request = ConfirmLaunchRequest(
            job_id=job_id,
            launch_no=launch_no,
            kubernetes_uid=seen.uid,
            placed_on=seen.placed_on,
            placement_reason=seen.placement_reason,
        )
        await self._ask(self._launches.ConfirmLaunch, request)

    async def _ask(self, call: Callable[..., Awaitable[Reply]], request: object) -> Reply:
        began = time.monotonic()
        try:
            return await call(request, timeout=CALL_SECONDS, metadata=self._proof() + traces.metadata())
        finally:
            logs.add_duration("jobs_ms", time.monotonic() - began)

    def _proof(self) -> tuple[tuple[str, str]]:
        return (auth.bearer(self._token_file),)
