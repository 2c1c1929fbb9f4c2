"""Stand-in analyzers that speak the real protocol: thousands of lives pass in the time of one analysis.

A controller starts process.py, which asks here what to do. Most launches work: StartLaunch, the video by its signed
URL, heartbeats, files by signed URLs, both results. Some are given bad input, crash, run out of memory or fall silent.
Leases that have ended are used again later: every such call must be rejected.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import web
from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK, Artifact, Stage
from crease.upload.v1.upload_pb2 import SignLaunchRequest
from crease.upload.v1.upload_pb2_grpc import UploadServiceStub
from testing.chaos.calls import Calls, GaveUp, Metadata, http_session, own_channel, transfer
from testing.chaos.pods import Pods

# What becomes of a launch, and how often.
FATES = {"works": 84, "bad input": 3, "crashes": 3, "out of memory": 2, "is killed": 3, "falls silent": 2, "is late": 3}
FILES = {"results.json": "application/json", "report.html": "text/html; charset=utf-8"}
DONE, BAD_INPUT, CRASHED, UNAVAILABLE, LEASE_LOST, OUT_OF_MEMORY = 0, 65, 70, 69, 75, 137
# As a shell reports SIGKILL.
KILLED = 137
# An ended lease is used again after this time.
LATE_SECONDS = 3.0
LATE_CALLS_A_SECOND = 2.0


@dataclass(frozen=True)
class Launch:
    """One launch, as its process handed it over."""

    job_id: str
    launch_no: int
    token: str
    # 0: of a pod.
    pid: int
    # Over connections of its own, as each pod has.
    launches: LaunchServiceStub | None = None
    uploads: UploadServiceStub | None = None

    @property
    def key(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "launch_no": self.launch_no}


@dataclass
class Analyzers:
    """`videos`: what each key's object must hold. `has_ended`: whether a launch has ended, by the harness's own SQL."""

    socket: Path
    pods: Pods | None
    jobs_endpoint: str
    upload_endpoint: str
    calls: Calls
    dice: random.Random
    has_ended: Callable[[str, int], bool]
    videos: dict[str, bytes] = field(default_factory=dict)
    # The markers of all results that an analyzer submitted, by job.
    submitted: dict[str, set[str]] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)
    # Calls with an ended lease, by answer.
    late: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    running: set[Launch] = field(default_factory=set)
    _old: list[tuple[float, Launch, str]] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self) -> None:
        """Serves until cancelled."""
        server = await asyncio.start_unix_server(self._begin, str(self.socket))
        self.socket.chmod(0o777)
        async with http_session() as self._http, server, self._open_to_pods():
            try:
                await self._call_late()
            finally:
                for task in self._tasks:
                    task.cancel()

    def kill(self, share: float, number: int = signal.SIGKILL) -> list[int]:
        """Signals a share of the running processes."""
        chosen = [launch.pid for launch in self.running if launch.pid and self.dice.random() < share]
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return chosen

    @asynccontextmanager
    async def _open_to_pods(self) -> AsyncIterator[None]:
        if self.pods is None:
            yield
            return
        served = web.Application()
        served.router.add_get("/{job_id}/{launch_no}", self._attend_pod)
        # A pod that dies takes its work with it.
        runner = web.AppRunner(served, handler_cancellation=True, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.pods.host, self.pods.port).start()
            yield
        finally:
            await runner.cleanup()

    async def _attend_pod(self, request: web.Request) -> web.Response:
        job_id, launch_no = request.match_info["job_id"], int(request.match_info["launch_no"])
        return web.Response(text=str(await self._play(Launch(job_id, launch_no, request.headers["Authorization"], 0))))

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._attend(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Runs one launch; a process that ends takes its work with it."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            launch = Launch(**json.loads(await reader.readline()))
            work = asyncio.ensure_future(self._play(launch))
            gone = asyncio.ensure_future(reader.read())
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    writer.write(str(work.result()).encode())
            finally:
                work.cancel()
                gone.cancel()
                writer.close()

    async def _play(self, launch: Launch) -> int:
        """Runs one launch by its fate; returns the exit code."""
        [fate] = self.dice.choices(list(FATES), list(FATES.values()))
        self.fates[fate] += 1
        self.running.add(launch)
        try:
            return await self._run(launch, fate)
        finally:
            self.running.discard(launch)

    async def _run(self, launch: Launch, fate: str) -> int:
        """The exit code."""
        if fate == "crashes":
            return CRASHED
        lease = ""
        try:
            async with self._connected(launch) as pod:
                bearer = (("authorization", f"Bearer {launch.token}"),)
                asked = wire.StartLaunchRequest(**launch.key)
                started = await self.calls.until(pod.launches.StartLaunch, asked, bearer, 60)
                lease = started.lease
                return await self._analyse(pod, fate, started, (("authorization", f"Lease {lease}"),))
        except GaveUp:
            return UNAVAILABLE
        except grpc.aio.AioRpcError as error:
            return LEASE_LOST if error.code().name in ("PERMISSION_DENIED", "FAILED_PRECONDITION") else CRASHED
        finally:
            if lease:
                self._old.append((time.monotonic(), launch, lease))

    @asynccontextmanager
    async def _connected(self, launch: Launch) -> AsyncIterator[Any]:
        async with own_channel(self.jobs_endpoint) as jobs, own_channel(self.upload_endpoint) as upload:
            yield replace(launch, launches=LaunchServiceStub(jobs), uploads=UploadServiceStub(upload))

    async def _analyse(self, launch: Any, fate: str, started: wire.StartLaunchResponse, lease: Metadata) -> int:
        patience = started.lease_duration.ToSeconds()
        signed = await self._sign(launch, [], lease, patience)
        video = await transfer(self._http, signed.video, None, patience)
        if video != self.videos.get(started.job.video.s3_key, video):
            self.violations.append(f"launch {launch.key} read another video than {started.job.video.s3_key}")
        match fate:
            case "bad input":
                failed = wire.FailLaunchRequest(
                    **launch.key, ending=wire.ENDING_BAD_INPUT, failure_code="NOT_A_VIDEO", error_message="No video"
                )
                await self.calls.until(launch.launches.FailLaunch, failed, lease, patience)
                return BAD_INPUT
            case "out of memory":
                return OUT_OF_MEMORY
            case "is killed" if not launch.pid:
                return KILLED
            case "is killed":
                os.kill(launch.pid, signal.SIGKILL)
            case "falls silent":
                await asyncio.sleep(3600)
            case "is late":
                await asyncio.sleep(2 * patience)
        if started.stage != STAGE_DEEP:
            await self._work(launch, STAGE_QUICK, lease, patience)
        if started.job.deep_enabled:
            await self._work(launch, STAGE_DEEP, lease, patience)
        return DONE

    async def _work(self, launch: Any, stage: Stage.ValueType, lease: Metadata, patience: float) -> None:
        for progress in (0.3, 0.6):
            beat = wire.HeartbeatRequest(**launch.key, stage=stage, progress=progress)
            await self.calls.until(launch.launches.Heartbeat, beat, lease, patience)
            await asyncio.sleep(self.dice.uniform(0.05, 0.4))
        body = json.dumps(launch.key | {"stage": stage}).encode()
        files = [
            Artifact(name=name, stage=stage, content_type=kind, content_length=len(body))
            for name, kind in FILES.items()
        ]
        signed = await self._sign(launch, files, lease, patience)
        for one in signed.artifacts:
            await transfer(self._http, one, body, patience)
        marker = f"{launch.job_id}/{launch.launch_no}/{Stage.Name(stage)}/{uuid.uuid4()}"
        self.submitted.setdefault(launch.job_id, set()).add(marker)
        result = wire.SubmitResultRequest(**launch.key, stage=stage, results=_results(marker), artifacts=files)
        for _ in range(2 if self.dice.random() < 0.1 else 1):
            await self.calls.until(launch.launches.SubmitResult, result, lease, patience)

    async def _sign(self, launch: Any, files: list[Artifact], lease: Metadata, patience: float) -> Any:
        asked = SignLaunchRequest(**launch.key, artifacts=files)
        return await self.calls.until(launch.uploads.SignLaunch, asked, lease, patience)

    async def _call_late(self) -> None:
        """Uses ended leases: a pod that was cut off from everything comes back."""
        while True:
            await asyncio.sleep(self.dice.expovariate(LATE_CALLS_A_SECOND))
            due = [one for one in self._old[-200:] if one[0] < time.monotonic() - LATE_SECONDS]
            if not due:
                continue
            _, launch, lease = self.dice.choice(due)
            if not await asyncio.to_thread(self.has_ended, launch.job_id, launch.launch_no):
                continue
            async with self._connected(launch) as pod:
                await self._call_by_old_lease(pod, lease)

    async def _call_by_old_lease(self, launch: Any, lease: str) -> None:
        stage = self.dice.choice((STAGE_QUICK, STAGE_DEEP))
        bearer, by_lease = (("authorization", f"Bearer {launch.token}"),), (("authorization", f"Lease {lease}"),)
        result = wire.SubmitResultRequest(**launch.key, stage=stage, results=_results("stale"))
        choices: list[tuple[Any, Any, Metadata]] = [
            (launch.launches.Heartbeat, wire.HeartbeatRequest(**launch.key, stage=stage, progress=1.0), by_lease),
            (launch.launches.SubmitResult, result, by_lease),
            (launch.launches.FailLaunch, wire.FailLaunchRequest(**launch.key, ending=wire.ENDING_UNKNOWN), by_lease),
            (launch.launches.StartLaunch, wire.StartLaunchRequest(**launch.key), bearer),
            (launch.uploads.SignLaunch, SignLaunchRequest(**launch.key), by_lease),
        ]
        rpc, request, metadata = self.dice.choice(choices)
        name, code = type(request).__name__.removesuffix("Request"), "OK"
        try:
            await self.calls.once(rpc, request, metadata)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        self.late[name, code] += 1
        # A repeated SubmitResult of the lease that published this stage succeeds and changes nothing: audit.py looks.
        if code == "OK" and name != "SubmitResult":
            self.violations.append(f"{name} of the ended launch {launch.key} was accepted")


def _results(marker: str) -> struct_pb2.Struct:
    results = {"pose": {"pose_summary": {"marker": marker}}, "metrics": {}, "findings": {}, "report": {}}
    return json_format.ParseDict(results, struct_pb2.Struct())
