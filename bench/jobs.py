"""`jobs` beside the same SQL by bare psycopg and beside Procrastinate, all on one PostgreSQL in one run.

CPU is that of the `jobs` process alone, authentication, rights and logs included; PostgreSQL has its own. Times of day are
one machine's: a moment that the database wrote is compared with this process's clock.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import psycopg
from google.protobuf import json_format, struct_pb2

from bench.figures import Figure, percentile
from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.events.v1 import event_pb2, event_pb2_grpc
from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from services import issuer
from tests.postgres import Server, postgres
from tests.programs import Laptop, Program, lease, running

LIVES = 400
# Calls under way at once.
WIDTH = 8
ROUNDS = 3
RESULTS = json_format.ParseDict(
    {"pose": {"pose_summary": {"total_frames": 105}}, "metrics": {}, "findings": {}, "report": {}}, struct_pb2.Struct()
)
TRANSITIONS_OF_A_LIFE = 6


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        server = stack.enter_context(postgres(folder / "data"))
        issuer.create(folder / "issuer")
        bench = Bench(server, Laptop(folder / "issuer"), folder)
        yield from bench.lives()


@dataclass
class Bench:
    server: Server
    laptop: Laptop
    folder: Path

    def program(self, database_url: str, **settings: str) -> Program:
        """A `jobs` as in production, settings included, but for where it is."""
        env = self.laptop.env | {"CREASE_DATABASE_URL": database_url} | settings
        return Program("jobs", env, self.folder / f"{uuid.uuid4().hex}.log")

    def lives(self) -> Iterator[Figure]:
        """CPU by RPC, and the rate of whole lives."""
        with running(self.program(self.server.clone())) as program:
            asyncio.run(self._live(program, 40))
            spent = asyncio.run(self._live(program, LIVES))
        on = f"{LIVES} lives, {WIDTH} calls at once"
        for rpc, phase in spent.items():
            yield Figure(f"jobs_cpu_{rpc}", phase.cpu / LIVES * 1000, "ms", how=f"CPU of `jobs` per call; {on}")
        cpu = sum(phase.cpu for phase in spent.values())
        each = cpu / LIVES / len(spent) * 1000
        yield Figure("jobs_cpu_per_transition_rpc", each, "ms", 0.8, how=f"mean of the {len(spent)} calls above; {on}")
        rate = LIVES * TRANSITIONS_OF_A_LIFE / cpu
        yield Figure("jobs_transitions_per_core", rate, "1/s", 1000, most=False, how=f"per CPU second of `jobs`; {on}")

    async def _live(self, program: Program, count: int) -> "dict[str, Phase]":
        """Takes jobs from their creation to done, all of them through one call after another."""
        async with callers(program.endpoint, self.laptop) as who:
            return await who.live(count, Meter(program))


@dataclass
class Phase:
    """What one kind of call cost, in seconds."""

    cpu: float
    wall: float


class Meter:
    """Reads the clocks of a program."""

    def __init__(self, program: Program) -> None:
        assert program.process is not None
        self._process = psutil.Process(program.process.pid)

    def read(self) -> Phase:
        times = self._process.cpu_times()
        return Phase(times.user + times.system, time.monotonic())


async def spread(calls: Iterable[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Makes calls, WIDTH at once; their answers in order."""
    waiting = iter(enumerate(calls))
    answers: dict[int, Any] = {}

    async def work() -> None:
        for number, call in waiting:
            answers[number] = await call()

    await asyncio.gather(*[work() for _ in range(WIDTH)])
    return [answers[number] for number in sorted(answers)]


@asynccontextmanager
async def callers(endpoint: str, laptop: Laptop) -> "AsyncIterator[Callers]":
    async with grpc.aio.insecure_channel(endpoint) as channel:
        yield Callers(channel, laptop)


class Callers:
    """Every caller of `jobs`, with a token each."""

    def __init__(self, channel: grpc.aio.Channel, laptop: Laptop) -> None:
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.jobs = job_pb2_grpc.JobServiceStub(channel)
        self.intake = job_pb2_grpc.IntakeServiceStub(channel)
        self.launches = launch_pb2_grpc.LaunchServiceStub(channel)
        self.events = event_pb2_grpc.EventServiceStub(channel)
        self.laptop = laptop
        self.coach = laptop.person("coach-1")
        self.upload = laptop.program("upload", behind="coach-1")
        self.controller = laptop.program("controller")

    async def session(self) -> str:
        made = await self.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=self.coach)
        return str(made.session_id)

    async def create(self, session_id: str) -> job_pb2.Job:
        request = job_pb2.CreateJobRequest(
            session_id=session_id, s3_bucket="videos", content_type="video/mp4", content_length=10
        )
        return await self.intake.CreateJob(request, metadata=self.upload)

    async def confirm_upload(self, job: job_pb2.Job) -> None:
        request = job_pb2.ConfirmUploadRequest(job_id=job.job_id, etag="abc", content_length=10)
        await self.intake.ConfirmUpload(request, metadata=self.upload)

    async def open(self, capacity: int = 1) -> list[launch_pb2.Launch]:
        request = launch_pb2.OpenLaunchesRequest(cluster="c1", capacity=capacity)
        return list((await self.launches.OpenLaunches(request, metadata=self.controller)).launches)

    async def confirm(self, launch: launch_pb2.Launch) -> None:
        request = launch_pb2.ConfirmLaunchRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, kubernetes_uid=f"uid-{launch.job_id}"
        )
        await self.launches.ConfirmLaunch(request, metadata=self.controller)

    async def start(self, launch: launch_pb2.Launch, pod: Any) -> str:
        request = launch_pb2.StartLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no)
        return str((await self.launches.StartLaunch(request, metadata=pod)).lease)

    async def beat(self, launch: launch_pb2.Launch, secret: str) -> None:
        request = launch_pb2.HeartbeatRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, stage=job_pb2.STAGE_QUICK, progress=0.5
        )
        await self.launches.Heartbeat(request, metadata=lease(secret))

    async def submit(self, launch: launch_pb2.Launch, secret: str, stage: Any) -> None:
        request = launch_pb2.SubmitResultRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, stage=stage, results=RESULTS
        )
        await self.launches.SubmitResult(request, metadata=lease(secret))

    async def live(self, count: int, meter: Meter) -> dict[str, Phase]:
        """Whole lives, call by call."""
        spent: dict[str, Phase] = {}
        session_id = await self.session()

        async def phase(name: str, calls: Iterable[Callable[[], Awaitable[Any]]]) -> list[Any]:
            before = meter.read()
            answers = await spread(calls)
            after = meter.read()
            spent[name] = Phase(after.cpu - before.cpu, after.wall - before.wall)
            return answers

        jobs = await phase("create_job", [lambda: self.create(session_id)] * count)
        await phase("confirm_upload", [lambda job=job: self.confirm_upload(job) for job in jobs])
        launches = [launch for [launch] in await phase("open_launches", [self.open] * count)]
        await phase("confirm_launch", [lambda launch=launch: self.confirm(launch) for launch in launches])
        pods = [self.laptop.pod(f"analysis-{launch.job_id}-{launch.launch_no}-aaaaa") for launch in launches]
        starts = [lambda one=one: self.start(*one) for one in zip(launches, pods, strict=True)]
        held = list(zip(launches, await phase("start_launch", starts), strict=True))
        await phase("heartbeat", [lambda one=one: self.beat(*one) for one in held])
        for name, stage in (("submit_quick", job_pb2.STAGE_QUICK), ("submit_deep", job_pb2.STAGE_DEEP)):
            await phase(name, [lambda one=one, stage=stage: self.submit(*one, stage) for one in held])
        return spent
