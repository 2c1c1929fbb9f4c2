"""The real program, over real processes: started, told to stop, killed at every numbered point."""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.failpoints import IN_KUBERNETES, CrashPoint
from services.controller.core.launcher import name_of
from testing.fakes.controller import FakeJobs, StandIn, controller_env, serving, until
from testing.servers.programs import Program


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.end_all()


@contextlib.asynccontextmanager
async def controller(folder: Path, stand_in: StandIn, jobs: FakeJobs, **env: str) -> AsyncIterator[Program]:
    """A running controller and the `jobs` it talks to."""
    async with serving(jobs) as port:
        program = Program("controller", controller_env(folder, stand_in, port) | env, folder / "controller.log")
        try:
            await asyncio.to_thread(program.start)
            yield program
        finally:
            program.kill()


def at_work(jobs: FakeJobs, stand_in: StandIn, job_id: str) -> str:
    """The name under which a job is at work and known to be; empty where it is not."""
    names = [name_of(one) for one in jobs.open_launches() if one.job_id == job_id and one.kubernetes_uid]
    return names[0] if names and names[0] in stand_in.live() and names[0] in stand_in.starts() else ""


async def test_health_answers(tmp_path: Path, stand_in: StandIn) -> None:
    """As on every server of ours."""
    async with (
        controller(tmp_path, stand_in, FakeJobs()) as program,
        grpc.aio.insecure_channel(program.endpoint) as channel,
    ):
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.slow
async def test_told_to_stop_it_ends_well_and_its_analyses_go_on(tmp_path: Path, stand_in: StandIn) -> None:
    """The next controller adopts them: nothing is started twice, and their end is told."""
    jobs = FakeJobs()
    async with controller(tmp_path, stand_in, jobs) as program:
        jobs.queue("one")
        await until(lambda: at_work(jobs, stand_in, "one"))
        process = program.process
        await asyncio.to_thread(program.stop)
        assert process is not None
        assert process.returncode == 0
        assert stand_in.live() == ["analysis-one-1"]
        stand_in.finish("analysis-one-1", 65)
        await until(lambda: not stand_in.live())
        await asyncio.to_thread(program.start)
        await until(lambda: not jobs.open_launches())
    assert jobs.of("one")[0].ending == wire.ENDING_BAD_INPUT
    assert stand_in.starts() == ["analysis-one-1"]


async def test_it_starts_while_jobs_is_away(tmp_path: Path, stand_in: StandIn) -> None:
    """Health answers, and when `jobs` comes the work begins."""
    jobs = FakeJobs()
    async with serving(jobs) as port:
        pass
    program = Program("controller", controller_env(tmp_path, stand_in, port), tmp_path / "controller.log")
    try:
        await asyncio.to_thread(program.start)
        async with serving(jobs, port):
            jobs.queue("one")
            await until(lambda: at_work(jobs, stand_in, "one"))
    finally:
        program.kill()


def test_a_missing_setting_names_itself() -> None:
    """Exit code 78, one line each."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.controller"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert ended.returncode == 78
    for name in ("JOBS_ENDPOINT", "UPLOAD_ENDPOINT", "TOKEN_FILE", "STATE_FOLDER", "ISSUER_FOLDER"):
        assert f"CREASE_{name}: " in ended.stderr


async def keep(program: Program, deaths: list[int]) -> None:
    """Starts the program again whenever it dies, without the crash: what Kubernetes or the laptop does."""
    while True:
        died = program.process
        assert died is not None
        await until(functools.partial(has_ended, died), seconds=60)
        program.env = {**program.env, "CREASE_CRASH_AT": ""}
        await asyncio.to_thread(program.start)
        # Last, so that who reads of a death finds the next one serving.
        deaths.append(died.returncode)


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(set(CrashPoint) - IN_KUBERNETES), ids=lambda point: point.name)
async def test_killed_at_any_point_it_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, stand_in: StandIn, point: CrashPoint
) -> None:
    """Through one life that passes every point: two jobs start, one breaks and is launched again, one is cancelled."""
    jobs, deaths = FakeJobs(), list[int]()
    async with controller(tmp_path, stand_in, jobs, CREASE_CRASH_AT=point.name) as program:
        keeper = asyncio.create_task(keep(program, deaths))
        jobs.queue("one")
        jobs.queue("two")
        await until(lambda: at_work(jobs, stand_in, "one") and at_work(jobs, stand_in, "two"))
        broken = at_work(jobs, stand_in, "one")
        stand_in.finish(broken, 70)
        await until(lambda: at_work(jobs, stand_in, "one") not in ("", broken))
        jobs.cancel("two")
        await until(lambda: stand_in.live() == [at_work(jobs, stand_in, "one")])
        jobs.submit("one")
        stand_in.finish(stand_in.live()[0], 0)
        await until(lambda: deaths and not stand_in.live())
        keeper.cancel()
    assert deaths == [-9]
    assert set(Counter(stand_in.starts()).values()) == {1}
    assert jobs.open_launches() == jobs.queued == []
    assert jobs.launches[broken].ending == wire.ENDING_UNKNOWN
    assert [one.ending for one in jobs.of("one")][-1] == wire.ENDING_SUCCEEDED
    assert [one.ending for one in jobs.of("two")][-1] == wire.ENDING_CANCELLED
