"""The fakes of the controller's tests: `jobs` and a cluster in memory, and an analyzer that a test controls."""

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceServicer, add_LaunchServiceServicer_to_server
from crease.events.v1.event_pb2 import AcknowledgeEventsRequest, DeleteSubscriptionRequest, Event, WatchEventsRequest
from crease.events.v1.event_pb2_grpc import EventServiceServicer, add_EventServiceServicer_to_server
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO
from services import dev_issuer
from services.controller.core.launcher import (
    FailureReason,
    Observed,
    Phase,
    Placement,
    Unknown,
    check_ours,
    labels_of,
    name_of,
)
from services.controller.local.launcher import LocalLauncher
from services.controller.local.process_record import Record
from services.jobs.domain.retry_policy import RULES
from services.serving import Context

# After these endings `jobs` queues the job again.
RETRIED = {wire.Ending.Value(f"ENDING_{ending.upper()}") for ending, rule in RULES.items() if rule.retries != 0}

HERE = Placement(ACCELERATOR_AUTO, "The only place")


async def until(holds: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Waits for a condition; fails after the time limit."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (other processes make it true)
            await asyncio.sleep(0.02)


def launch(job_id: str = "job", launch_no: int = 1, **fields: Any) -> wire.Launch:
    """An open launch, unconfirmed by default."""
    return wire.Launch(job_id=job_id, launch_no=launch_no, **fields)


class FakeJobs(LaunchServiceServicer, EventServiceServicer):
    """The part of `jobs` that a controller sees: queued jobs, launches, events."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.launches: dict[str, wire.Launch] = {}
        self.events: list[Event] = []
        # The position of each call of WatchEvents.
        self.watched: list[str] = []
        # The number of calls of ListLaunches.
        self.lists = 0
        self.page_size = 200
        # How many events, from the oldest, are no longer kept.
        self.purged = 0
        self._hang_up = asyncio.Event()
        self._has_expired = False

    def queue(self, job_id: str) -> None:
        self.queued.append(job_id)
        self._emit("JobQueued", job_id)

    def cancel(self, job_id: str) -> None:
        """Ends the job's launches as cancelled, at once."""
        for one in self.open_launches():
            if one.job_id == job_id:
                one.ending = wire.ENDING_CANCELLED
        self._emit("JobCancelled", job_id)

    def request_cancellation(self, job_id: str) -> None:
        """The effect of CancelJob on a running job: the controller has to end the launch."""
        for one in self.open_launches():
            if one.job_id == job_id:
                one.cancel_requested_at.GetCurrentTime()

    def submit(self, job_id: str) -> None:
        """The effect of an analyzer's last result."""
        for one in self.open_launches():
            if one.job_id == job_id:
                one.ending = wire.ENDING_SUCCEEDED

    def open_launches(self) -> list[wire.Launch]:
        return [one for one in self.launches.values() if one.ending == wire.ENDING_UNSPECIFIED]

    def of(self, job_id: str) -> list[wire.Launch]:
        return [one for one in self.launches.values() if one.job_id == job_id]

    def hang_up(self) -> None:
        """Breaks every stream of events."""
        self._hang_up.set()
        self._hang_up = asyncio.Event()

    def expire_tokens(self) -> None:
        """Ends the streams as those of an expired token."""
        self._has_expired = True
        self.hang_up()

    async def OpenLaunches(self, request: wire.OpenLaunchesRequest, context: Context) -> wire.OpenLaunchesResponse:
        for job_id in list(self.queued):
            if len([one for one in self.open_launches() if not one.kubernetes_uid]) >= request.capacity:
                break
            self.queued.remove(job_id)
            new = launch(job_id, len(self.of(job_id)) + 1, cluster=request.cluster)
            self.launches[name_of(new)] = new
        unconfirmed = [one for one in self.open_launches() if not one.kubernetes_uid]
        return wire.OpenLaunchesResponse(launches=unconfirmed[: request.capacity])

    async def ListLaunches(self, request: wire.ListLaunchesRequest, context: Context) -> wire.ListLaunchesResponse:
        self.lists += 1
        start = int(request.page_token or 0)
        end = start + min(self.page_size, request.page_size)
        found = self.open_launches()
        return wire.ListLaunchesResponse(launches=found[start:end], next_page_token=str(end) if found[end:] else "")

    async def ConfirmLaunch(self, request: wire.ConfirmLaunchRequest, context: Context) -> wire.Launch:
        one = self.launches.get(name_of(launch(request.job_id, request.launch_no)))
        if one is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Launch not found")
        if one.ending or one.kubernetes_uid not in ("", request.kubernetes_uid):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "The launch has ended or another UID is confirmed")
        one.kubernetes_uid = request.kubernetes_uid
        one.placed_on, one.placement_reason = request.placed_on, request.placement_reason
        return one

    async def EndLaunch(self, request: wire.EndLaunchRequest, context: Context) -> wire.Launch:
        one = self.launches[name_of(launch(request.job_id, request.launch_no))]
        if not one.ending:
            one.ending, one.ending_message = request.ending, request.message
            if request.ending in RETRIED:
                self.queue(one.job_id)
        return one

    async def StartLaunch(self, request: wire.StartLaunchRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    async def Heartbeat(self, request: wire.HeartbeatRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    async def SubmitResult(self, request: wire.SubmitResultRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    async def FailLaunch(self, request: wire.FailLaunchRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    async def WatchEvents(self, request: WatchEventsRequest, context: Context) -> AsyncIterator[Event]:
        self.watched.append(request.after)
        position, hang_up = int(request.after or len(self.events)), self._hang_up
        if position < self.purged:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"Events after {position} are no longer kept")
        while not hang_up.is_set():
            for event in self.events[position:]:
                yield event
            position = len(self.events)
            await asyncio.sleep(0.01)
        if self._has_expired:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token has expired")

    async def AcknowledgeEvents(self, request: AcknowledgeEventsRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    async def DeleteSubscription(self, request: DeleteSubscriptionRequest, context: Context) -> NoReturn:
        await _unimplemented(context)

    def _emit(self, kind: str, job_id: str) -> None:
        self.events.append(Event(id=str(len(self.events) + 1), type=kind, subject=job_id))


async def _unimplemented(context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "The controller does not call this")
    raise AssertionError  # abort() raises


async def rounds(jobs: FakeJobs, count: int) -> None:
    """Waits until the controller has begun more than `count` further rounds."""
    before = jobs.lists
    await until(lambda: jobs.lists > before + count)


@contextlib.asynccontextmanager
async def serving(jobs: FakeJobs, port: int = 0) -> AsyncIterator[int]:
    """Serves the fake on a real port, which it yields."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_LaunchServiceServicer_to_server(jobs, server)
    add_EventServiceServicer_to_server(jobs, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@dataclass
class Elapsed:
    """Stands in for the module `time`: a monotonic clock that a test moves."""

    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class FakeLauncher:
    """A cluster in memory. `workloads` is the cluster's state; several launchers may share it."""

    workloads: dict[str, Observed] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    is_cut: bool = False
    # By how much its clock is wrong.
    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def is_ready(self) -> bool:
        return not self.is_cut

    async def create(self, launch: wire.Launch, placement: Placement) -> Observed:
        self._check_connected()
        name = name_of(launch)
        if name in self.workloads:
            return check_ours(self.workloads[name])
        self.starts.append(name)
        self.workloads[name] = Observed(
            name=name,
            uid=str(uuid.uuid4()),
            phase=Phase.RUNNING,
            labels=labels_of(launch),
            created_at=datetime.now(UTC),
            placed_on=placement.on,
            placement_reason=placement.reason,
        )
        return self.workloads[name]

    async def list(self) -> Sequence[Observed]:
        self._check_connected()
        return [observed for observed in self.workloads.values() if observed.is_ours]

    async def get(self, name: str) -> Observed | None:
        return next((one for one in await self.list() if one.name == name and one.is_live), None)

    def gpus(self) -> None: ...

    async def delete(self, observed: Observed, *, force: bool = False) -> None:
        self._check_connected()
        found = self.workloads.get(observed.name)
        if found and found.is_live and found.uid == observed.uid:
            ended = replace(found, phase=Phase.FAILED, exit_code=143, failure=FailureReason.DELETED)
            self.workloads[observed.name] = ended

    async def set_status_label(self, observed: Observed, status: str) -> None: ...

    def record_event(self, observed: Observed, reason: str, message: str) -> None: ...

    def finish(self, name: str, exit_code: int) -> None:
        phase = Phase.FAILED if exit_code else Phase.SUCCEEDED
        self.workloads[name] = replace(self.workloads[name], phase=phase, exit_code=exit_code)

    def live(self) -> Sequence[str]:
        return [observed.name for observed in self.workloads.values() if observed.is_live]

    def _check_connected(self) -> None:
        if self.is_cut:
            raise Unknown("The connection to the cluster is cut")


# Ends with the exit code that a test writes under the launch's name. A job named `stubborn…` ignores SIGTERM. The
# script also ends when the test's folder is gone, so that no process outlives a killed test.
STAND_IN = """
control=$1 job=$3 name=analysis-$3-$5
case $job in stubborn*) trap '' TERM;; esac
env >"$control/$name.env"
echo "$name" >>"$control/started"
until [ -e "$control/$name" ] || [ ! -d "$control" ]; do sleep 0.05; done
exit "$(cat "$control/$name")"
"""


class StandIn:
    """Stands in for the analyzer: `command` starts it, `finish` ends it with an exit code."""

    def __init__(self, folder: Path, issuer_folder: Path | None = None) -> None:
        self.control = folder / "control"
        self.state = folder / "state"
        self.issuer = issuer_folder or folder / "issuer"
        self.control.mkdir(parents=True)
        dev_issuer.create(self.issuer)
        (folder / "stand_in.sh").write_text(STAND_IN)
        self.command = ("/bin/sh", str(folder / "stand_in.sh"), str(self.control))

    def launcher(self, keep: timedelta | None = None) -> LocalLauncher:
        return LocalLauncher(self.state, self.command, {"PATH": os.environ["PATH"]}, self.issuer, keep=keep)

    def record(self, name: str) -> Record:
        return Record(self.state / "launches" / name)

    def finish(self, name: str, exit_code: int) -> None:
        (self.control / "new").write_text(str(exit_code))
        (self.control / "new").rename(self.control / name)

    def starts(self) -> list[str]:
        started = self.control / "started"
        return started.read_text().split() if started.exists() else []

    def live(self) -> list[str]:
        return [record.folder.name for record in self._records() if record.is_locked()]

    def end_all(self) -> None:
        """Ends every stand-in, by moving its folder away."""
        self.control.rename(self.control.with_name("over"))
        deadline = time.monotonic() + 30
        while self.live():
            assert time.monotonic() < deadline, f"still alive: {self.live()}"
            time.sleep(0.02)

    def _records(self) -> Iterator[Record]:
        for folder in (self.state / "launches").glob("analysis-*"):
            if (folder / "lock").exists():
                yield Record(folder)


def controller_env(folder: Path, stand_in: StandIn, jobs_port: int) -> dict[str, str]:
    """The settings of a controller that runs stand-ins."""
    token = folder / "controller.jwt"
    token.write_text(dev_issuer.program(stand_in.issuer, "controller"))
    return {
        "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{jobs_port}",
        "CREASE_UPLOAD_ENDPOINT": "127.0.0.1:1",
        "CREASE_TOKEN_FILE": str(token),
        "CREASE_CAPACITY": "2",
        "CREASE_TICK_SECONDS": "0.1",
        "CREASE_LINGER_SECONDS": "0.1",
        "CREASE_STATE_FOLDER": str(stand_in.state),
        "CREASE_ISSUER_FOLDER": str(stand_in.issuer),
        "CREASE_ANALYZER_COMMAND": json.dumps(stand_in.command),
    }
