"""What the controller's tests stand on: a `jobs` and a cluster in memory, and an analyzer that does as it is told."""

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceServicer, add_LaunchServiceServicer_to_server
from crease.events.v1.event_pb2 import Event
from crease.events.v1.event_pb2_grpc import EventServiceServicer, add_EventServiceServicer_to_server
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO
from services import dev_issuer
from services.controller.core.launcher import Phase, Placement, Reason, Seen, Unknown, check_ours, labels_of, name_of
from services.controller.local.launcher import LocalLauncher
from services.controller.local.process_record import Record

# After these `jobs` launches again.
RETRIED = (wire.ENDING_DISRUPTION, wire.ENDING_UNKNOWN, wire.ENDING_LEASE_LOST, wire.ENDING_OUT_OF_MEMORY)


HERE = Placement(ACCELERATOR_AUTO, "There is nothing else")


async def until(holds: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Waits for something that has to come true; the limit is only for what never does."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
            await asyncio.sleep(0.02)


def launch(job_id: str = "job", launch_no: int = 1, **fields: object) -> wire.Launch:
    """An open launch, not confirmed unless said."""
    return wire.Launch(job_id=job_id, launch_no=launch_no, **fields)


class FakeJobs(LaunchServiceServicer, EventServiceServicer):
    """The rows as far as a controller can tell: queued jobs, launches, events."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.launches: dict[str, wire.Launch] = {}
        self.events: list[Event] = []
        # The position of each call of WatchEvents.
        self.watched: list[str] = []
        self.lists = 0
        self.page_size = 200
        self._hang_up = asyncio.Event()

    def queue(self, job_id: str) -> None:
        self.queued.append(job_id)
        self._tell("JobQueued", job_id)

    def cancel(self, job_id: str) -> None:
        for one in self.open_launches():
            if one.job_id == job_id:
                one.ending = wire.ENDING_CANCELLED
        self._tell("JobCancelled", job_id)

    def ask_to_cancel(self, job_id: str) -> None:
        """What a person's wish does; only the controller's proof ends the launch."""
        for one in self.open_launches():
            if one.job_id == job_id:
                one.cancel_requested_at.GetCurrentTime()

    def submit(self, job_id: str) -> None:
        """What an analyzer's last result does."""
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

    async def OpenLaunches(self, request, context):
        for job_id in list(self.queued):
            if len([one for one in self.open_launches() if not one.kubernetes_uid]) >= request.capacity:
                break
            self.queued.remove(job_id)
            new = launch(job_id, len(self.of(job_id)) + 1, cluster=request.cluster)
            self.launches[name_of(new)] = new
        offered = [one for one in self.open_launches() if not one.kubernetes_uid]
        return wire.OpenLaunchesResponse(launches=offered[: request.capacity])

    async def ListLaunches(self, request, context):
        self.lists += 1
        start = int(request.page_token or 0)
        end = start + min(self.page_size, request.page_size)
        found = self.open_launches()
        return wire.ListLaunchesResponse(launches=found[start:end], next_page_token=str(end) if found[end:] else "")

    async def ConfirmLaunch(self, request, context):
        one = self.launches.get(name_of(request))
        if one is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Launch not found")
        if one.ending or one.kubernetes_uid not in ("", request.kubernetes_uid):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "The launch has ended or another UID is confirmed")
        one.kubernetes_uid = request.kubernetes_uid
        one.placed_on, one.placement_reason = request.placed_on, request.placement_reason
        return one

    async def EndLaunch(self, request, context):
        one = self.launches[name_of(request)]
        if not one.ending:
            one.ending, one.ending_message = request.ending, request.message
            if request.ending in RETRIED:
                self.queue(one.job_id)
        return one

    async def WatchEvents(self, request, context):
        self.watched.append(request.after)
        position, hang_up = int(request.after or len(self.events)), self._hang_up
        while not hang_up.is_set():
            for event in self.events[position:]:
                yield event
            position = len(self.events)
            await asyncio.sleep(0.01)

    def _tell(self, kind: str, job_id: str) -> None:
        self.events.append(Event(id=str(len(self.events) + 1), type=kind, subject=job_id))


@contextlib.asynccontextmanager
async def serving(jobs: FakeJobs, port: int = 0) -> AsyncIterator[int]:
    """The fake behind a real server; gives its port."""
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
class FakeLauncher:
    """A cluster in memory. `things` is the cluster; launchers may share one."""

    things: dict[str, Seen] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    is_cut: bool = False

    def now(self) -> datetime:
        return datetime.now(UTC)

    def is_ready(self) -> bool:
        return not self.is_cut

    async def create(self, launch: wire.Launch, placement: Placement) -> Seen:
        self._answer()
        name = name_of(launch)
        if name in self.things:
            return check_ours(self.things[name])
        self.starts.append(name)
        self.things[name] = Seen(
            name=name,
            uid=str(uuid.uuid4()),
            phase=Phase.RUNNING,
            labels=labels_of(launch),
            created_at=datetime.now(UTC),
            placed_on=placement.on,
            placement_reason=placement.reason,
        )
        return self.things[name]

    async def list(self) -> Sequence[Seen]:
        self._answer()
        return [seen for seen in self.things.values() if seen.is_ours]

    async def look(self, name: str) -> Seen | None:
        return next((seen for seen in await self.list() if seen.name == name and seen.is_live), None)

    def gpus(self) -> None: ...

    async def delete(self, seen: Seen, *, force: bool = False) -> None:
        self._answer()
        found = self.things.get(seen.name)
        if found and found.is_live and found.uid == seen.uid:
            self.things[seen.name] = replace(found, phase=Phase.FAILED, exit_code=143, reason=Reason.DELETED)

    async def mark(self, seen: Seen, status: str) -> None: ...

    def tell(self, seen: Seen, what: str, why: str) -> None: ...

    def finish(self, name: str, exit_code: int) -> None:
        phase = Phase.FAILED if exit_code else Phase.SUCCEEDED
        self.things[name] = replace(self.things[name], phase=phase, exit_code=exit_code)

    def live(self) -> Sequence[str]:
        return [seen.name for seen in self.things.values() if seen.is_live]

    def _answer(self) -> None:
        if self.is_cut:
            raise Unknown("The cluster is cut off")


# Ends with the exit code it finds under its launch's name; `stubborn` jobs don't listen to SIGTERM. It ends by itself
# when the test's folder is gone, so that nothing outlives a test that was killed.
STAND_IN = """
control=$1 job=$3 name=analysis-$3-$5
case $job in stubborn*) trap '' TERM;; esac
env >"$control/$name.env"
echo "$name" >>"$control/started"
until [ -e "$control/$name" ] || [ ! -d "$control" ]; do sleep 0.05; done
exit "$(cat "$control/$name")"
"""


class StandIn:
    """The analyzer's stand-in, seen from the test: `command` starts it, `finish` tells it how to end."""

    def __init__(self, folder: Path, issuer_folder: Path | None = None) -> None:
        self.control = folder / "control"
        self.state = folder / "state"
        self.issuer = issuer_folder or folder / "issuer"
        self.control.mkdir(parents=True)
        dev_issuer.create(self.issuer)
        (folder / "stand_in.sh").write_text(STAND_IN)
        self.command = ("/bin/sh", str(folder / "stand_in.sh"), str(self.control))

    def launcher(self) -> LocalLauncher:
        return LocalLauncher(self.state, self.command, {"PATH": os.environ["PATH"]}, self.issuer)

    def record(self, name: str) -> Record:
        return Record(self.state / "launches" / name)

    def finish(self, name: str, exit_code: int) -> None:
        (self.control / "new").write_text(str(exit_code))
        (self.control / "new").rename(self.control / name)

    def starts(self) -> list[str]:
        started = self.control / "started"
        return started.read_text().split() if started.exists() else []

    def live(self) -> list[str]:
        return [record.folder.name for record in self._records() if record.is_held()]

    def end_all(self) -> None:
        """Every stand-in ends when its folder is gone; none is left behind."""
        self.control.rename(self.control.with_name("over"))
        give_up = time.monotonic() + 30
        while self.live():
            assert time.monotonic() < give_up, f"still alive: {self.live()}"
            time.sleep(0.02)

    def _records(self) -> Iterator[Record]:
        for folder in (self.state / "launches").glob("analysis-*"):
            if (folder / "lock").exists():
                yield Record(folder)


def controller_env(folder: Path, stand_in: StandIn, jobs_port: int) -> dict[str, str]:
    """Settings of a controller that runs stand-ins."""
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
