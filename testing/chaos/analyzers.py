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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK, Artifact, Stage
from crease.upload.v1.upload_pb2 import SignLaunchRequest
from crease.upload.v1.upload_pb2_grpc import UploadServiceStub
from testing.chaos.calls import Calls, GaveUp, Metadata, transfer

# What becomes of a launch, and how often.
FATES = {"works": 84, "bad input": 3, "crashes": 3, "out of memory": 2, "is killed": 3, "falls silent": 2, "is late": 3}
FILES = {"results.json": "application/json", "report.html": "text/html; charset=utf-8"}
DONE, BAD_INPUT, CRASHED, UNAVAILABLE, LEASE_LOST, OUT_OF_MEMORY = 0, 65, 70, 69, 75, 137
# An ended lease is used again after this time.
LATE_SECONDS = 3.0
LATE_CALLS_A_SECOND = 2.0


@dataclass(frozen=True)
class Launch:
    """One launch, as its process handed it over."""

    job_id: str
    launch_no: int
    token: str
    pid: int

    @property
    def key(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "launch_no": self.launch_no}


@dataclass
class Analyzers:
    """`videos`: what each key's object must hold. `has_ended`: whether a launch has ended, by the harness's own SQL."""

    socket: Path
    jobs: grpc.aio.Channel
    upload: grpc.aio.Channel
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
    running: dict[int, Launch] = field(default_factory=dict)
    _old: list[tuple[float, Launch, str]] = field(default_factory=list)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self) -> None:
        """Serves until cancelled."""
        self._launches, self._uploads = LaunchServiceStub(self.jobs), UploadServiceStub(self.upload)
        server = await asyncio.start_unix_server(self._begin, str(self.socket))
        self.socket.chmod(0o777)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as self._http, server:
            try:
                await self._call_late()
            finally:
                for task in self._tasks:
                    task.cancel()

    def kill(self, share: float, number: int = signal.SIGKILL) -> list[int]:
        """Signals a share of the running processes."""
        chosen = [pid for pid in self.running if self.dice.random() < share]
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return chosen

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._attend(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Runs one launch; a process that ends takes its work with it."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            launch = Launch(**json.loads(await reader.readline()))
            [fate] = self.dice.choices(list(FATES), list(FATES.values()))
            self.fates[fate] += 1
            with self._counted(launch):
                work = asyncio.ensure_future(self._run(launch, fate))
                gone = asyncio.ensure_future(reader.read())
                try:
                    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if work.done():
                        writer.write(str(work.result()).encode())
                finally:
                    work.cancel()
                    gone.cancel()
                    writer.close()

    @contextmanager
    def _counted(self, launch: Launch) -> Iterator[None]:
        self.running[launch.pid] = launch
        try:
            yield
        finally:
            self.running.pop(launch.pid, None)

    async def _run(self, launch: Launch, fate: str) -> int:
        """The exit code."""
        if fate == "crashes":
            return CRASHED
        lease = ""
        try:
            bearer = (("authorization", f"Bearer {launch.token}"),)
            asked = wire.StartLaunchRequest(**launch.key)
            started = await self.calls.until(self._launches.StartLaunch, asked, bearer, 60)
            lease = started.lease
            return await self._analyse(launch, fate, started, (("authorization", f"Lease {lease}"),))
        except GaveUp:
            return UNAVAILABLE
        except grpc.aio.AioRpcError as error:
            return LEASE_LOST if error.code().name in ("PERMISSION_DENIED", "FAILED_PRECONDITION") else CRASHED
        finally:
            if lease:
                self._old.append((time.monotonic(), launch, lease))

    async def _analyse(self, launch: Launch, fate: str, started: wire.StartLaunchResponse, lease: Metadata) -> int:
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
                await self.calls.until(self._launches.FailLaunch, failed, lease, patience)
                return BAD_INPUT
            case "out of memory":
                return OUT_OF_MEMORY
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

    async def _work(self, launch: Launch, stage: Stage.ValueType, lease: Metadata, patience: float) -> None:
        for progress in (0.3, 0.6):
            beat = wire.HeartbeatRequest(**launch.key, stage=stage, progress=progress)
            await self.calls.until(self._launches.Heartbeat, beat, lease, patience)
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
            await self.calls.until(self._launches.SubmitResult, result, lease, patience)

    async def _sign(self, launch: Launch, files: list[Artifact], lease: Metadata, patience: float) -> Any:
        asked = SignLaunchRequest(**launch.key, artifacts=files)
        return await self.calls.until(self._uploads.SignLaunch, asked, lease, patience)

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
            await self._call_by_old_lease(launch, lease)

    async def _call_by_old_lease(self, launch: Launch, lease: str) -> None:
        stage = self.dice.choice((STAGE_QUICK, STAGE_DEEP))
        bearer, by_lease = (("authorization", f"Bearer {launch.token}"),), (("authorization", f"Lease {lease}"),)
        result = wire.SubmitResultRequest(**launch.key, stage=stage, results=_results("stale"))
        choices: list[tuple[Any, Any, Metadata]] = [
            (self._launches.Heartbeat, wire.HeartbeatRequest(**launch.key, stage=stage, progress=1.0), by_lease),
            (self._launches.SubmitResult, result, by_lease),
            (self._launches.FailLaunch, wire.FailLaunchRequest(**launch.key, ending=wire.ENDING_UNKNOWN), by_lease),
            (self._launches.StartLaunch, wire.StartLaunchRequest(**launch.key), bearer),
            (self._uploads.SignLaunch, SignLaunchRequest(**launch.key), by_lease),
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
